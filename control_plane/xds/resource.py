"""Resources and their versions.

The rule of this module: a version is the hash of the content. "The version for a resource type is
not a property of an individual xDS stream but rather a property of the resources themselves" (xDS
protocol, "ACK/NACK and resource type instance version"). So the same bytes have the same version on
every stream, on every replica and after a restart, and nothing is sent again that did not change.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NewType

from control_plane.names import shown
from control_plane.xds.constraints import Constraints
from control_plane.xds.xdstp import SCHEME, canonical, collection_of, is_glob

TypeUrl = NewType("TypeUrl", str)
Version = NewType("Version", str)
Nonce = NewType("Nonce", str)

WILDCARD = "*"
"""The name that subscribes to every resource that the server has for the node."""

NO_NAMES: frozenset[str] = frozenset()
"""The empty set of names, shared by all: a separate one would take 216 bytes for each type of each
stream."""

SHORTEST_TTL = 0.5
"""Seconds; a busy server could not keep a resource alive that expires sooner."""

LONGEST_TTL = 9_223_372_036
"""Seconds, 292 years: Envoy counts nanoseconds in 63 bits, and refuses a longer TTL."""

_VERSION_DIGITS = 16

NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""The empty map, shared by all: most snapshots and responses have neither aliases nor TTLs."""


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
        version: the hash of ``body``, which is kept out of ``repr`` because a Secret holds a
            private key. For a variant, the hash covers its constraints too.
        aliases: other names of the same resource (delta only).
        octets: the length of ``body``.
        ttl: after how many seconds without word from the server a client drops the resource, if it
            supports TTLs; None for never.
        collection: the glob collection that the resource belongs to, if its name is an ``xdstp://``
            name.
        constraints: if the resource is a variant of its name, which clients it is for; None if it
            is for all clients.
        awaits: for each type that is sent again after this resource, the names that the client then
            waits for. For a type without an entry, this is the resource of the same name or,
            failing that, any.
    """

    type_url: TypeUrl
    name: str
    version: Version
    aliases: tuple[str, ...]
    octets: int
    ttl: float | None
    collection: str | None
    constraints: Constraints | None
    _content: bytes = field(repr=False)
    _is_packed: bool = field(repr=False)
    awaits: Mapping[TypeUrl, tuple[str, ...]] = field(compare=False, repr=False)

    @classmethod
    def of(  # noqa: PLR0913 - one argument for each thing that is known of it
        cls,
        type_url: str,
        name: str,
        body: bytes,
        aliases: Iterable[str] = (),
        *,
        pack: bool = False,
        ttl: float | None = None,
        constraints: Constraints | None = None,
        awaits: Mapping[TypeUrl, tuple[str, ...]] = NOTHING,
    ) -> Resource:
        """Make a resource with this content.

        Args:
            type_url: the type.
            name: what clients subscribe to.
            body: the serialised message.
            aliases: other names of the same resource.
            pack: whether to keep the body compressed, which pays for bodies that are big,
                repetitive and seldom sent.
            ttl: after how many seconds without word from the server a client drops the resource.
            constraints: which clients the resource is for, if it is a variant of its name.
            awaits: the names that a client waits for after it is sent this resource, by type.

        Raises:
            ValueError: there is no name; or the TTL is shorter than ``SHORTEST_TTL`` or longer than
                ``LONGEST_TTL``; or the name is that of a glob collection, or begins with ``xdstp:``
                and is malformed or not canonical; or a variant has aliases.
        """
        if not name:
            raise ValueError("a resource has a name, by which clients ask for it")
        collection = None
        if SCHEME in name:
            # The message repeats the name, and if that is spelled differently, Envoy takes it for
            # another name.
            if name != canonical(name):
                raise ValueError(f"the name {shown(name)} is written {shown(canonical(name))}")
            if is_glob(name):
                raise ValueError(f"a resource has a name that stands for several: {shown(name)}")
            collection = collection_of(name)
        if ttl is not None and not SHORTEST_TTL <= ttl <= LONGEST_TTL:
            limits = f"{SHORTEST_TTL} to {LONGEST_TTL} seconds, or None"
            raise ValueError(f"a TTL is {limits}, not {ttl}")
        version, other_names, octets = version_of(body), tuple(aliases), len(body)
        if constraints is not None:
            if other_names:
                raise ValueError(f"a resource with aliases has no variants: {shown(name)}")
            version = version_of(version.encode() + constraints.encoded)
        return cls(
            TypeUrl(type_url),
            name,
            version,
            other_names,
            octets,
            ttl,
            collection,
            constraints,
            zlib.compress(body, level=1) if pack else body,
            pack,
            awaits,
        )

    @property
    def body(self) -> bytes:
        """The serialised message."""
        return zlib.decompress(self._content) if self._is_packed else self._content


def versions_in(resources: Iterable[Resource]) -> dict[str, Version]:
    """Return the versions of some resources, by name."""
    return {each.name: each.version for each in resources}


@dataclass(frozen=True, slots=True)
class Denied:
    """A name that a node may not have, and why; for its clients there is no such resource."""

    type_url: TypeUrl
    name: str
    reason: str
