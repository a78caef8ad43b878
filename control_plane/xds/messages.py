"""Requests and responses of the protocol as values, free of protobuf.

The rule of this module: it has the fields of ``envoy/service/discovery/v3/discovery.proto`` that a
server acts on, under their own names, and nothing else. ``control_plane.server.discovery.wire``
translates to and from bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.xds.constraints import Constraints, Parameters
from control_plane.xds.resource import NOTHING, Nonce, Resource, TypeUrl, Version


@dataclass(frozen=True, slots=True)
class Node:
    """Who a client says it is: a claim, until it is compared with the client's certificate.

    Attributes:
        user_agent: name and version, as HTTP writes them: ``envoy/1.40.0``.
        locality: region, zone and sub-zone.
        metadata: a ``google.protobuf.Struct``, serialised; empty if there is none, or too much.
    """

    id: str
    cluster: str = ""
    user_agent: str = ""
    client_features: frozenset[str] = frozenset()
    locality: tuple[str, str, str] = ("", "", "")
    metadata: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """Why a client refused a response, or is not sent a resource (``google.rpc.Status``)."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Locator:
    """A ``ResourceLocator``: a name, and what its resource may vary by."""

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
        unresolved: names that no resource has, told in ``resources`` without content.
        ttls: for how many seconds the client keeps resources that expire by themselves.
        kept: in a heartbeat of delta, the versions that the client has of what it is to keep.
        is_heartbeat: whether it only keeps resources alive, and tells of no change.
        errors: why the client is not sent what it asked for, by name; none of it is in
            ``resources``.
        constraints: those that are told beside a name in ``resources``, or in ``kept``.
        removed_variants: ``removed_resource_names``: names, with the constraints that were told of
            them. Where a name is in ``resources`` too, these are other variants that the client
            has.
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
        """Return the names of which the client is told that there is nothing any more."""
        if not self.removed_variants:
            return self.removed
        there = {each.name for each in self.resources}
        variants = (name for name, _ in self.removed_variants if name not in there)
        return tuple(dict.fromkeys((*self.removed, *variants)))
