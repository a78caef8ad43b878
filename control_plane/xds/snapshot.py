"""Snapshots: which resources a node should have.

The rule of this module: a snapshot never changes, so its content is all that matters when two
snapshots are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import TypeVar
from weakref import WeakValueDictionary, ref

from control_plane.names import shown
from control_plane.xds.constraints import ambiguity
from control_plane.xds.resource import (
    NO_NAMES,
    NOTHING,
    WILDCARD,
    Resource,
    TypeUrl,
    Version,
    version_of_all,
)
from control_plane.xds.xdstp import canonical, collection_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class TypeSnapshot:
    """The resources of one type that one node should have, by name.

    Attributes:
        resources: the resources that exist, without those that have variants.
        pending: names that will exist in a moment. Until then such a name is neither sent nor
            reported as missing, because Envoy would open the listener without its certificate and
            reset connections.
        recorded: names that exist and whose version is known, but whose content is gone (private
            keys do not survive a restart). A client that states this version is up to date; for any
            other client the content has to be made anew.
        version: the version of the type: a hash of all names and versions.
        aliases: the resources by their aliases.
        ttls: the TTLs, in seconds, of the resources that have one.
        denied: for names that the node may not have, the reason to tell its clients.
        collections: the names in each glob collection, pending and recorded ones included.
        variants: the variants of each name that has any; a client gets at most one of them. A
            snapshot that ``showing`` returns for one client has none.
    """

    resources: Mapping[str, Resource]
    pending: frozenset[str]
    recorded: Mapping[str, Version]
    version: Version
    aliases: Mapping[str, Resource]
    ttls: Mapping[str, float]
    denied: Mapping[str, str]
    collections: Mapping[str, AbstractSet[str]]
    variants: Mapping[str, tuple[Resource, ...]]
    _shown: WeakValueDictionary[tuple[int, ...], TypeSnapshot] | None = field(
        default=None, compare=False, repr=False
    )
    _differences: dict[int, tuple[ref[TypeSnapshot], frozenset[str]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @classmethod
    def of(
        cls,
        resources: Iterable[Resource] = (),
        *,
        pending: Iterable[str] = (),
        recorded: Mapping[str, Version] | None = None,
        denied: Mapping[str, str] | None = None,
    ) -> TypeSnapshot:
        """Collect resources by name.

        Raises:
            ValueError: a name occurs twice, which no response may contain; a name is ``*``, which
                stands for all; two resources have the same alias; a name both exists and is denied;
                or it is ambiguous which variant of a name some client should have.
        """
        by_name: dict[str, Resource] = {}
        variants: dict[str, list[Resource]] = {}
        for resource in resources:
            if resource.constraints is not None:
                variants.setdefault(resource.name, []).append(resource)
            elif resource.name in by_name:
                raise ValueError(f"resource name occurs twice in a snapshot: {resource.name!r}")
            else:
                by_name[resource.name] = resource
        _check_variants(variants, by_name)
        if WILDCARD in by_name or WILDCARD in variants:
            raise ValueError(f"no resource can have the name {WILDCARD!r}: it stands for all")
        pending, recorded = frozenset(pending) or NO_NAMES, recorded or {}
        everything = chain(by_name.values(), *variants.values())
        collections = _collections(everything, (*pending, *recorded))
        reasons = {canonical(name): why for name, why in denied.items()} if denied else NOTHING
        for name in reasons.keys() & (by_name.keys() | variants.keys()):
            raise ValueError(f"resource is there and denied in a snapshot: {name!r}")
        return cls(
            MappingProxyType(by_name),
            pending,
            MappingProxyType(dict(recorded)),
            version_of_all(_versions(by_name, variants)),
            _frozen(_aliases(by_name.values())),
            _frozen(_ttls(by_name.values())),
            _frozen(reasons),
            _frozen(collections),
            _frozen({name: tuple(found) for name, found in variants.items()}),
            WeakValueDictionary() if variants else None,
        )

    def showing(self, chosen: Iterable[Resource]) -> TypeSnapshot:
        """Return the snapshot as one client sees it; clients with the same variants share one.

        Args:
            chosen: the client's variants, at most one of each name.
        """
        if self._shown is None:
            return self
        chosen = tuple(chosen)
        # The variants live as long as this snapshot, so no other object gets their ids. A shown
        # snapshot lives only as long as a stream uses it.
        key = tuple(map(id, chosen))
        found = self._shown.get(key)
        if found is None:
            found = self._shown[key] = self._with(chosen)
        return found

    def _with(self, chosen: Iterable[Resource]) -> TypeSnapshot:
        resources = {**self.resources, **{each.name: each for each in chosen}}
        collections = _collections(resources.values(), (*self.pending, *self.recorded))
        return replace(
            self,
            resources=MappingProxyType(resources),
            version=version_of_all(_versions(resources)),
            ttls=_frozen(_ttls(resources.values())),
            collections=_frozen(collections),
            variants=NOTHING,
            _shown=None,
        )

    def differs_from(self, before: TypeSnapshot) -> frozenset[str]:
        """Return the names of which this may tell a client something else than an earlier snapshot.

        Most streams compare the same two snapshots, of one node or of many, so the result is
        cached.
        """
        known = self._differences.get(id(before))
        if known is not None and known[0]() is before:
            return known[1]
        found = frozenset(
            chain(
                _differing(self.resources, before.resources),
                _differing(self.aliases, before.aliases),
                self.pending ^ before.pending,
                self.recorded.keys() ^ before.recorded.keys(),
                (name for name, each in self.recorded.items() if before.recorded.get(name) != each),
                self.collections.keys() ^ before.collections.keys(),
            )
        )
        for key in [key for key, (was, _) in self._differences.items() if was() is None]:
            del self._differences[key]
        self._differences[id(before)] = ref(before), found
        return found

    def find(self, name: str) -> Resource | None:
        """Return the resource that has this name or alias."""
        return self.resources.get(name) or self.aliases.get(name)

    def expects(self, name: str) -> bool:
        """Tell whether this name, or anything in this collection, exists or will in a moment."""
        exists = name in self.resources or name in self.collections
        return exists or name in self.pending or name in self.recorded

    def knows(self, name: str) -> bool:
        """Tell whether a resource, variant or alias of this name exists, or will in a moment."""
        exists = name in self.resources or name in self.aliases or name in self.variants
        return exists or name in self.pending or name in self.recorded


def _frozen(entries: Mapping[str, T]) -> Mapping[str, T]:
    """Return entries that cannot be changed; most snapshots have none, and share one map."""
    return MappingProxyType(entries) if entries else NOTHING


def _differing(now: Mapping[str, Resource], then: Mapping[str, Resource]) -> Iterator[str]:
    for name, each in now.items():
        before = then.get(name)
        if before is not each and (
            before is None or before.version != each.version or before.aliases != each.aliases
        ):
            yield name
    yield from then.keys() - now.keys()


def _aliases(resources: Iterable[Resource]) -> dict[str, Resource]:
    aliases: dict[str, Resource] = {}
    for resource in resources:
        for alias in resource.aliases:
            if aliases.setdefault(alias, resource) is not resource:
                raise ValueError(f"alias of two resources in a snapshot: {alias!r}")
    return aliases


def _ttls(resources: Iterable[Resource]) -> dict[str, float]:
    return {each.name: each.ttl for each in resources if each.ttl is not None}


def _check_variants(
    variants: Mapping[str, Sequence[Resource]], others: Mapping[str, Resource]
) -> None:
    for name, found in variants.items():
        if name in others:
            raise ValueError(f"resource with and without constraints in a snapshot: {shown(name)}")
        reason = ambiguity(tuple(each.constraints for each in found if each.constraints))
        if reason:
            raise ValueError(f"variants of the resource {shown(name)} are ambiguous: {reason}")


def _versions(
    resources: Mapping[str, Resource], variants: Mapping[str, Sequence[Resource]] = NOTHING
) -> dict[str, Version]:
    versions = {name: each.version for name, each in resources.items()}
    for name, found in variants.items():
        # If there is only one variant, this is the version that clients see.
        versions[name] = Version(",".join(sorted(each.version for each in found)))
    return versions


def _collections(
    resources: Iterable[Resource], others: Iterable[str]
) -> dict[str, AbstractSet[str]]:
    found: dict[str, set[str]] = {}
    for resource in resources:
        if resource.collection is not None:
            found.setdefault(resource.collection, set()).add(resource.name)
    for name in others:
        collection = collection_of(name)
        if collection is not None:
            found.setdefault(collection, set()).add(name)
    return {glob: frozenset(names) for glob, names in found.items()}


EMPTY = TypeSnapshot.of()
"""The snapshot of a type of which the node has no resources."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one node should have, by type."""

    types: Mapping[TypeUrl, TypeSnapshot] = field(default_factory=lambda: NOTHING)

    def of_type(self, type_url: TypeUrl) -> TypeSnapshot:
        """Return the node's resources of one type; it has none of a type that was never set."""
        return self.types.get(type_url, EMPTY)

    def changed_since(self, before: Snapshot) -> AbstractSet[TypeUrl]:
        """Return the types of which the node should have something else than before."""
        urls = self.types.keys() | before.types.keys()
        pairs = [(url, self.types.get(url, EMPTY), before.types.get(url, EMPTY)) for url in urls]
        return {
            url
            for url, now, then in pairs
            # Most types that differ have different versions, and this comparison is cheap.
            if now is not then and (now.version != then.version or now != then)
        }

    def keeping(self, before: Snapshot, changed: AbstractSet[TypeUrl]) -> Snapshot:
        """Return this snapshot, but with the earlier snapshot's objects for unchanged types.

        If no type changed, this is the earlier snapshot itself.

        Args:
            changed: ``changed_since(before)``.
        """
        if not changed:
            return before
        kept = {url: before.types.get(url, each) for url, each in self.types.items()}
        return Snapshot(
            MappingProxyType(kept | {url: self.types[url] for url in changed & self.types.keys()})
        )
