"""Requests and responses of the protocol as values, free of protobuf.

The rule of this module: it has the fields of ``envoy/service/discovery/v3/discovery.proto`` that a
server acts on, under their own names, and nothing else. ``control_plane.server.discovery.wire``
converts them from and to bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.xds.constraints import Constraints, Parameters
from control_plane.xds.resource import NOTHING, Nonce, Resource, TypeUrl, Version


@dataclass(frozen=True, slots=True)
class Node:
    """The node that a client says it is: only a claim until it is compared with its certificate.

    Attributes:
        user_agent: name and version, as HTTP writes them: ``envoy/1.40.0``.
        locality: region, zone and sub-zone.
        metadata: a ``google.protobuf.Struct``, serialised; empty if there is none, or if it is too
            large.
    """

    id: str
    cluster: str = ""
    user_agent: str = ""
    client_features: frozenset[str] = frozenset()
    locality: tuple[str, str, str] = ("", "", "")
    metadata: bytes = field(default=b"", repr=False)

    @property
    def is_envoy(self) -> bool:
        """Whether the client says that it is an Envoy."""
        return self.user_agent.partition("/")[0] == "envoy"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """Why a client refused a response, or is not sent a resource (``google.rpc.Status``)."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Locator:
    """A ``ResourceLocator``: a name, and the parameters that select a variant of its resource."""

    name: str
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A ``DiscoveryRequest``."""

    type_url: TypeUrl
    resource_names: tuple[str, ...] = ()
    version_info: str = ""
    response_nonce: str = ""
    error_detail: ErrorDetail | None = None
    node: Node | None = None
    resource_locators: tuple[Locator, ...] = ()


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A ``DeltaDiscoveryRequest``."""

    type_url: TypeUrl
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_resource_versions: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    response_nonce: str = ""
    error_detail: ErrorDetail | None = None
    node: Node | None = None
    subscribe_locators: tuple[Locator, ...] = ()
    unsubscribe_locators: tuple[Locator, ...] = ()


Request = SotwRequest | DeltaRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """One response, SotW or delta, ready to be serialised.

    Attributes:
        version: ``version_info`` or ``system_version_info``.
        removed: ``removed_resources``; always empty in SotW.
        unresolved: names that do not exist, and are told in ``resources`` without content.
        ttls: how many seconds the client keeps each resource that has a TTL.
        kept: in a delta heartbeat, the versions that the client has of the resources to keep alive.
        is_heartbeat: whether the response only keeps resources alive, and tells of no change.
        errors: by name, why the client is not sent a resource that it asked for; none of these
            names is in ``resources``.
        constraints: the constraints that are sent with a name in ``resources`` or ``kept``.
        removed_variants: ``removed_resource_names``: names, each with the constraints that the
            client was sent with it. If a name is in ``resources`` too, these are other variants
            that the client has.
    """

    type_url: TypeUrl
    nonce: Nonce
    version: Version
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    ttls: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    kept: Mapping[str, Version] = field(default_factory=lambda: NOTHING)
    is_heartbeat: bool = False
    errors: Mapping[str, ErrorDetail] = field(default_factory=lambda: NOTHING)
    constraints: Mapping[str, Constraints] = field(default_factory=lambda: NOTHING)
    removed_variants: tuple[tuple[str, Constraints | None], ...] = ()

    def gone(self) -> tuple[str, ...]:
        """Return the names of which the client is told that they no longer exist."""
        if not self.removed_variants:
            return self.removed
        there = {each.name for each in self.resources}
        variants = (name for name, _ in self.removed_variants if name not in there)
        return tuple(dict.fromkeys((*self.removed, *variants)))
