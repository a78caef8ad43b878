"""Snapshots, which say which resources a node should have.

The rule of this module: a snapshot never changes, and who compares two need look at nothing but
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType

from control_plane.xds.resource import (
    NOTHING,
    WILDCARD,
    Resource,
    TypeUrl,
    Version,
    version_of_all,
)
from control_plane.xds.xdstp import canonical, collection_of


@dataclass(frozen=True, slots=True)
class TypeSnapshot:
    """The resources of one type that one node should have, by name.

    Attributes:
        resources: what exists.
        pending: names that will exist in a moment; until then they are neither sent nor called
            missing, since Envoy would open the listener without its certificate and reset
            connections.
        recorded: names that exist and whose version is known, while their content is gone (private
            keys do not survive a restart). A client that states this version is up to date; for any
            other the content has to be made anew.
        version: the version of the type: the hash of all names and versions.
        aliases: the resources by their other names.
        ttls: the TTLs, in seconds, of those that have one.
        denied: why the node may not have what is not there, where it is to be told.
        collections: the names that are in each glob collection, also of what is not there yet.
    """

    resources: Mapping[str, Resource]
    pending: frozenset[str]
    recorded: Mapping[str, Version]
    version: Version
    aliases: Mapping[str, Resource]
    ttls: Mapping[str, float]
    denied: Mapping[str, str]
    collections: Mapping[str, AbstractSet[str]]

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
            ValueError: a name occurs twice, which no response may have, or is ``*``, by which
                nobody can ask for one resource; or an alias means two; or what is there is denied.
        """
        by_name: dict[str, Resource] = {}
        aliases: dict[str, Resource] = {}
        ttls: dict[str, float] = {}
        for resource in resources:
            if resource.name in by_name:
                raise ValueError(f"resource name occurs twice in a snapshot: {resource.name!r}")
            by_name[resource.name] = resource
            if resource.ttl is not None:
                ttls[resource.name] = resource.ttl
            for alias in resource.aliases:
                if aliases.setdefault(alias, resource) is not resource:
                    raise ValueError(f"alias of two resources in a snapshot: {alias!r}")
        if WILDCARD in by_name:
            raise ValueError(f"no resource can have the name {WILDCARD!r}: it stands for all")
        pending, recorded = frozenset(pending), recorded or {}
        collections = _collections(by_name.values(), (*pending, *recorded))
        reasons = {canonical(name): why for name, why in denied.items()} if denied else NOTHING
        for name in reasons.keys() & by_name.keys():
            raise ValueError(f"resource is there and denied in a snapshot: {name!r}")
        return cls(
            MappingProxyType(by_name),
            pending,
            MappingProxyType(dict(recorded)),
            version_of_all({name: each.version for name, each in by_name.items()}),
            MappingProxyType(aliases) if aliases else NOTHING,
            MappingProxyType(ttls) if ttls else NOTHING,
            MappingProxyType(reasons) if reasons else NOTHING,
            MappingProxyType(collections) if collections else NOTHING,
        )

    def find(self, name: str) -> Resource | None:
        """Return the resource that a client means by a name or an alias."""
        return self.resources.get(name) or self.aliases.get(name)


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
"""The snapshot of a type of which the node has nothing."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one node should have, by type."""

    types: Mapping[TypeUrl, TypeSnapshot] = field(default_factory=lambda: NOTHING)

    def of_type(self, type_url: TypeUrl) -> TypeSnapshot:
        """Return the node's resources of one type; of a type nobody set, it has none."""
        return self.types.get(type_url, EMPTY)

    def changed_since(self, before: Snapshot) -> AbstractSet[TypeUrl]:
        """Return the types of which a node should have something else now."""
        urls = self.types.keys() | before.types.keys()
        return {url for url in urls if self.of_type(url) != before.of_type(url)}

    def keeping(self, before: Snapshot, changed: AbstractSet[TypeUrl]) -> Snapshot:
        """Return this snapshot with the very contents of an earlier one, but for what changed.

        If nothing did, it is the earlier one.

        Args:
            changed: ``changed_since(before)``.
        """
        if not changed:
            return before
        kept = {url: before.types.get(url, each) for url, each in self.types.items()}
        return Snapshot(
            MappingProxyType(kept | {url: self.types[url] for url in changed & self.types.keys()})
        )

    def replacing(self, types: Mapping[TypeUrl, TypeSnapshot]) -> Snapshot:
        """Return this snapshot with some types replaced."""
        return Snapshot(MappingProxyType({**self.types, **types}))
