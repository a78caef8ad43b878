"""What differs from one resource type to the next.

The rule of this module: the machines know no type by name. Whatever they do differently for one
type is a property here, with the reason beside it, so a type of one's own behaves as its author
says.
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
    """Never: only other content, for types of which Envoy ACKs the bytes that it refused before
    and goes on with what it had, so that the ACK of a second attempt would be a lie."""

    AFTER_A_WHILE = "after a while"
    """With growing pauses: the cause may lie outside the content, as a port that was taken; or the
    client may be started again, has nothing then, and waits."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """How resources of one type are delivered.

    Attributes:
        complete: every SotW response carries all that the client needs. "The server must include
            the complete state of the world" for Listener and Cluster; for other types a response
            may be partial, but Envoy takes it that scoped routes are complete too.
        after_nack: when refused content may be sent again.
        batch: how many resources one partial response has at the most. A NACK refuses the whole
            response, so with 1 it is always known which resource was refused.
        after: types whose new resources are in place before those of this type are sent, and whose
            old ones are withdrawn only after this type lets go of them (make before break).
        refreshes: types that are sent again after each update of this type, since the client waits
            for them even if they are unchanged ("Warming of Cluster is completed only when a new
            ClusterLoadAssignment response is supplied").
        warms: types whose updates a client uses only once it has all that they name of this type;
            until then it uses what it had before.
        part_of: the type whose resources are made up of these, each named after the one that it is
            part of: ``<its name>/...``. They are sent on demand: to a client that asks for one by
            name or alias, which a wildcard does not. There is no such thing in SotW.
    """

    url: TypeUrl
    complete: bool = False
    after_nack: AfterNack = AfterNack.AFTER_A_WHILE
    batch: int = 1000
    after: tuple[TypeUrl, ...] = ()
    refreshes: tuple[TypeUrl, ...] = ()
    warms: tuple[TypeUrl, ...] = ()
    part_of: TypeUrl | None = None


ENVOY_TYPES: tuple[ResourceType, ...] = (
    ResourceType(CLUSTER, complete=True, refreshes=(ENDPOINT,)),
    # After the clusters, but not after the answer to them: Envoy ACKs no cluster that it warms
    # before it was sent the endpoints, or waited 15 s for them. A cluster that was updated begins
    # anew with the collections of its localities (LEDS) too, which Envoy does not ask for again.
    ResourceType(ENDPOINT, refreshes=(LB_ENDPOINT,)),
    ResourceType(LB_ENDPOINT),
    # Envoy 1.40 remembers the hash of a Secret before it looks whether it can use it, and
    # ACKs the same bytes from then on.
    ResourceType(SECRET, after_nack=AfterNack.WHEN_CHANGED, batch=1, warms=(LISTENER,)),
    # So it does with a filter that can be read, but not be made, as one with a script that has an
    # error.
    ResourceType(EXTENSION_CONFIG, after_nack=AfterNack.WHEN_CHANGED, warms=(LISTENER,)),
    ResourceType(
        LISTENER,
        complete=True,
        # A filter that lets a source in is there before the chain that lets it connect.
        after=(CLUSTER, ENDPOINT, EXTENSION_CONFIG),
        # Envoy goes on with its subscription to scoped routes while no listener has any, and waits
        # for them with the next that has.
        refreshes=(SCOPED_ROUTE,),
    ),
    # Envoy takes the routes of a listener into use once it heard of their virtual hosts, or waited
    # 15 s for that.
    ResourceType(ROUTE, after=(CLUSTER, ENDPOINT, LISTENER), refreshes=(VIRTUAL_HOST,)),
    ResourceType(
        SCOPED_ROUTE,
        complete=True,
        after=(CLUSTER, ENDPOINT, LISTENER, ROUTE),
    ),
    ResourceType(
        VIRTUAL_HOST,
        after=(CLUSTER, ENDPOINT, LISTENER, ROUTE),
        part_of=ROUTE,
    ),
)
"""The types that Envoy knows, in the order in which their responses leave."""


@dataclass(frozen=True, slots=True)
class ResourceTypes:
    """The types that a server knows; any other is delivered with the defaults, last."""

    ordered: tuple[ResourceType, ...]
    by_url: Mapping[TypeUrl, ResourceType]

    @classmethod
    def of(cls, types: Iterable[ResourceType] = ENVOY_TYPES) -> ResourceTypes:
        """Index types by URL, in the order in which their responses leave.

        Raises:
            ValueError: some wait for each other, or a batch is of none, so that they would never be
                sent.
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
        """Return the types that are sent only after this one."""
        return tuple(each.url for each in self.ordered if url in each.after)
