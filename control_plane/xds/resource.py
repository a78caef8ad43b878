"""Resources, and the snapshots that say which of them a node should have.

The rule of this module: a version is the hash of the content. "The version for a resource type is
not a property of an individual xDS stream but rather a property of the resources themselves" (xDS
protocol, "ACK/NACK and resource type instance version"), so the same bytes have the same version on
every stream, on every replica and after a restart, and nothing that did not change is ever sent
twice.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NewType

from control_plane.names import shown
from control_plane.xds.xdstp import SCHEME, canonical, collection_of, is_glob

TypeUrl = NewType("TypeUrl", str)
Version = NewType("Version", str)
Nonce = NewType("Nonce", str)

WILDCARD = "*"
"""The name that subscribes to all that the server holds ready for the node."""

SHORTEST_TTL = 0.5
"""Seconds: what lives shorter could not be kept alive by a server that has others to serve too."""

_VERSION_DIGITS = 16

NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""The empty map, once for all: of aliases and TTLs, most snapshots and responses have none."""


def version_of(content: bytes) -> Version:
    """Return the version of some content: 64 bits of its SHA-256, in hexadecimal."""
    return Version(hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS])


def version_of_all(versions: Mapping[str, Version]) -> Version:
    """Return the version of some resources of one type: the hash of their names and versions."""
    lines = "\n".join(f"{name}\0{versions[name]}" for name in sorted(versions))
    return version_of(lines.encode())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """One named resource of a type, serialised once.

    Attributes:
        name: what clients subscribe to.
        version: the hash of ``body``, which is kept out of ``repr``: a Secret holds a private key.
        aliases: other names that mean the same resource (delta only).
        octets: how long ``body`` is.
        ttl: after how many seconds without word from the server a client drops it, if it supports
            that; None for never.
        collection: the glob collection that it is in, if its name is an ``xdstp://`` name.
    """

    type_url: TypeUrl
    name: str
    version: Version
    aliases: tuple[str, ...]
    octets: int
    ttl: float | None
    collection: str | None
    _content: bytes = field(repr=False)
    _is_packed: bool = field(repr=False)

    @classmethod
    def of(
        cls,
        type_url: str,
        name: str,
        body: bytes,
        aliases: Iterable[str] = (),
        *,
        pack: bool = False,
        ttl: float | None = None,
    ) -> Resource:
        """Make the resource that has this content.

        Args:
            type_url: of what type.
            name: what clients subscribe to.
            body: the serialised message.
            aliases: other names that mean the same resource.
            pack: whether to keep it compressed: what is big, repeats itself and is seldom sent.
            ttl: after how many seconds without word from the server it is to be dropped.

        Raises:
            ValueError: the TTL is shorter than ``SHORTEST_TTL``, or the name is that of a glob
                collection, or begins with ``xdstp:`` and is malformed or not in its one form.
        """
        collection = None
        if SCHEME in name:
            # Its message has the name too, and Envoy takes that for another if it is not the same.
            if name != canonical(name):
                raise ValueError(f"the name {shown(name)} is written {shown(canonical(name))}")
            if is_glob(name):
                raise ValueError(f"a resource has a name that stands for several: {shown(name)}")
            collection = collection_of(name)
        if ttl is not None and not ttl >= SHORTEST_TTL:
            raise ValueError(f"a TTL is {SHORTEST_TTL} seconds or more, not {ttl}")
        content = zlib.compress(body, level=1) if pack else body
        url, version = TypeUrl(type_url), version_of(body)
        octets = len(body)
        return cls(url, name, version, tuple(aliases), octets, ttl, collection, content, pack)

    @property
    def body(self) -> bytes:
        """The serialised message."""
        return zlib.decompress(self._content) if self._is_packed else self._content


@dataclass(frozen=True, slots=True)
class Denied:
    """A name that a node may not have, and why: to its clients there is no such resource."""

    type_url: TypeUrl
    name: str
    reason: str


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
