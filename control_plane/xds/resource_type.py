"""What differs from one resource type to the next.

The rule of this module: the machines know no type by name. Everything that they do differently for
one type is an attribute here, with the reason beside it. So a type that a user of the library adds
behaves as its author declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

from control_plane.xds.resource import TypeUrl

_PREFIX = "type.googleapis.com/envoy."

CLUSTER = TypeUrl(_PREFIX + "config.cluster.v3.Cluster")
ENDPOINT = TypeUrl(_PREFIX + "config.endpoint.v3.ClusterLoadAssignment")
LB_ENDPOINT = TypeUrl(_PREFIX + "config.endpoint.v3.LbEndpoint")
LISTENER = TypeUrl(_PREFIX + "config.listener.v3.Listener")
ROUTE = TypeUrl(_PREFIX + "config.route.v3.RouteConfiguration")
SCOPED_ROUTE = TypeUrl(_PREFIX + "config.route.v3.ScopedRouteConfiguration")
SECRET = TypeUrl(_PREFIX + "extensions.transport_sockets.tls.v3.Secret")
EXTENSION_CONFIG = TypeUrl(_PREFIX + "config.core.v3.TypedExtensionConfig")
RUNTIME = TypeUrl(_PREFIX + "service.runtime.v3.Runtime")
VIRTUAL_HOST = TypeUrl(_PREFIX + "config.route.v3.VirtualHost")


class AfterNack(Enum):
    """When content that a client refused may be sent to it again."""

    WHEN_CHANGED = "when changed"
    """Never; only other content may be sent. For types of which Envoy ACKs the bytes that it
    refused before and keeps using what it had, so that the ACK of a second attempt would be a
    lie."""

    AFTER_A_WHILE = "after a while"
    """With growing pauses. The cause may lie outside the content, such as a port that was taken; or
    the client may have restarted, and then has nothing and waits."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """How resources of one type are delivered.

    Attributes:
        complete: whether every SotW response carries all resources of the type that the client
            needs. "The server must include the complete state of the world" for Listener and
            Cluster. For other types a response may be partial, but Envoy takes responses with
            scoped routes for complete too.
        after_nack: when refused content may be sent again.
        batch: how many resources one partial response has at most. A NACK refuses the whole
            response, so with 1 it is always known which resource was refused.
        after: the types whose new resources must be in place before those of this type are sent,
            and whose old resources are withdrawn only after this type no longer refers to them
            (make before break).
        named_by: the types of ``after`` that name resources of this type, and not the other way
            round. Their old resources are withdrawn without waiting for this type.
        refreshes: the types that are sent again after each update of this type, because the client
            waits for them even if they are unchanged ("Warming of Cluster is completed only when a
            new ClusterLoadAssignment response is supplied").
        warms: the types whose updates a client uses only once it has all resources of this type
            that they name; until then it uses what it had before.
        part_of: the type whose resources are made up of resources of this type, each named after
            the one that it is part of: ``<its name>/...``. They are sent on demand, to clients that
            ask for one by name or alias; a wildcard does not include them. SotW has no such types.
    """

    url: TypeUrl
    complete: bool = False
    after_nack: AfterNack = AfterNack.AFTER_A_WHILE
    batch: int = 1000
    after: tuple[TypeUrl, ...] = ()
    named_by: tuple[TypeUrl, ...] = ()
    refreshes: tuple[TypeUrl, ...] = ()
    warms: tuple[TypeUrl, ...] = ()
    part_of: TypeUrl | None = None


ENVOY_TYPES: tuple[ResourceType, ...] = (
    ResourceType(CLUSTER, complete=True, refreshes=(ENDPOINT,)),
    # Endpoints are sent after the clusters, but do not wait for the answer to them: Envoy ACKs no
    # cluster that it warms before it was sent the endpoints, or waited 15 s for them. A cluster
    # that was updated also waits anew for the collections of its localities (LEDS), which Envoy
    # does not ask for again.
    ResourceType(ENDPOINT, refreshes=(LB_ENDPOINT,)),
    ResourceType(LB_ENDPOINT),
    # Envoy 1.40 remembers the hash of a Secret before it checks whether it can use it, and ACKs the
    # same bytes from then on.
    ResourceType(SECRET, after_nack=AfterNack.WHEN_CHANGED, batch=1, warms=(LISTENER,)),
    # It does the same with a filter that it can parse but not create, such as one whose script has
    # an error.
    ResourceType(EXTENSION_CONFIG, after_nack=AfterNack.WHEN_CHANGED, warms=(LISTENER,)),
    ResourceType(
        LISTENER,
        complete=True,
        # The filter that admits a source must be there before the chain that lets it connect.
        after=(CLUSTER, ENDPOINT, EXTENSION_CONFIG),
        # While no listener has scoped routes, Envoy keeps its subscription to them, and waits for
        # them with the next listener that has some.
        refreshes=(SCOPED_ROUTE,),
    ),
    # Envoy starts to use the routes of a listener once it has heard of their virtual hosts, or
    # after 15 s.
    ResourceType(
        ROUTE,
        after=(CLUSTER, ENDPOINT, LISTENER),
        named_by=(LISTENER,),
        refreshes=(VIRTUAL_HOST,),
    ),
    ResourceType(
        SCOPED_ROUTE,
        complete=True,
        after=(CLUSTER, ENDPOINT, LISTENER, ROUTE),
        named_by=(LISTENER,),
    ),
    ResourceType(
        VIRTUAL_HOST,
        after=(CLUSTER, ENDPOINT, LISTENER, ROUTE),
        named_by=(LISTENER,),
        part_of=ROUTE,
    ),
)
"""The types that Envoy knows, in the order in which their responses leave."""


@dataclass(frozen=True, slots=True)
class ResourceTypes:
    """The types that a server knows. All other types have the defaults, and are served last."""

    ordered: tuple[ResourceType, ...]
    by_url: Mapping[TypeUrl, ResourceType]

    @classmethod
    def of(cls, types: Iterable[ResourceType] = ENVOY_TYPES) -> ResourceTypes:
        """Index types by URL, in the order in which their responses leave.

        Raises:
            ValueError: some types wait for each other, so that they would never be sent; or a batch
                size is less than 1.
        """
        ordered = tuple(types)
        for each in ordered:
            if each.batch < 1:
                raise ValueError(f"a batch is 1 or more resources, not {each.batch}: {each.url}")
        try:
            TopologicalSorter({each.url: each.after for each in ordered}).prepare()
        except CycleError as error:
            raise ValueError(f"types wait for each other: {', '.join(error.args[1])}") from None
        return cls(ordered, MappingProxyType({each.url: each for each in ordered}))

    def get(self, url: TypeUrl) -> ResourceType:
        """Return what is known of a type, or the defaults."""
        return self.by_url.get(url) or ResourceType(url)

    def followers(self, url: TypeUrl) -> tuple[TypeUrl, ...]:
        """Return the types that are sent only after this one, and may refer to it."""
        return tuple(
            each.url for each in self.ordered if url in each.after and url not in each.named_by
        )

    def is_refreshed(self, url: TypeUrl) -> bool:
        """Tell whether updates of another type make clients wait for this type anew."""
        return any(url in each.refreshes for each in self.ordered)
