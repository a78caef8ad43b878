"""The discovery methods that are served, by their paths.

The rule of this module: ``SERVICES`` is the table in section "RPC services and methods for each
variant" of the xDS protocol, for the services that this server has. Each service has one streaming
method for each variant, and one polled method. There are two exceptions: the services for virtual
hosts and for the endpoints of a locality have delta only, and the aggregated service is not polled.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.nodes import Variant
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LB_ENDPOINT,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
)


@dataclass(frozen=True, slots=True)
class DiscoveryMethods:
    """One discovery service.

    Attributes:
        service: its full name.
        noun: the noun in the names of its methods.
        only: the only type that it carries; None for the aggregated service, where requests name
            theirs.
        delta_only: whether delta is its only variant.
    """

    service: str
    noun: str
    only: TypeUrl | None
    delta_only: bool = False

    @property
    def streaming(self) -> dict[str, Variant]:
        """The streaming methods by name, with the variant that each of them speaks."""
        delta = {f"Delta{self.noun}": Variant.DELTA}
        return delta if self.delta_only else {f"Stream{self.noun}": Variant.SOTW, **delta}

    @property
    def polled(self) -> str | None:
        """The method that answers one request and ends; only SotW services of one type have it."""
        return None if self.only is None or self.delta_only else f"Fetch{self.noun}"


_PREFIX = "envoy.service."

SERVICES: tuple[DiscoveryMethods, ...] = (
    DiscoveryMethods(
        _PREFIX + "discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None
    ),
    DiscoveryMethods(_PREFIX + "cluster.v3.ClusterDiscoveryService", "Clusters", CLUSTER),
    DiscoveryMethods(_PREFIX + "endpoint.v3.EndpointDiscoveryService", "Endpoints", ENDPOINT),
    DiscoveryMethods(
        _PREFIX + "endpoint.v3.LocalityEndpointDiscoveryService",
        "LocalityEndpoints",
        LB_ENDPOINT,
        delta_only=True,
    ),
    DiscoveryMethods(_PREFIX + "listener.v3.ListenerDiscoveryService", "Listeners", LISTENER),
    DiscoveryMethods(_PREFIX + "route.v3.RouteDiscoveryService", "Routes", ROUTE),
    DiscoveryMethods(
        _PREFIX + "route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes", SCOPED_ROUTE
    ),
    DiscoveryMethods(
        _PREFIX + "route.v3.VirtualHostDiscoveryService",
        "VirtualHosts",
        VIRTUAL_HOST,
        delta_only=True,
    ),
    DiscoveryMethods(_PREFIX + "secret.v3.SecretDiscoveryService", "Secrets", SECRET),
    DiscoveryMethods(
        _PREFIX + "extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
        EXTENSION_CONFIG,
    ),
    DiscoveryMethods(_PREFIX + "runtime.v3.RuntimeDiscoveryService", "Runtime", RUNTIME),
)
