"""A discovery server on a port of its own, and small resources to serve.

The rule of this module: real sockets, real clocks; a test replaces only what it is about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from control_plane.clock import Clock, SystemClock
from control_plane.nodes import LiveStream, Nodes
from control_plane.server.access.admission import Admission
from control_plane.server.closing import Closing
from control_plane.server.discovery.services import DiscoveryService
from control_plane.server.limits import ServerLimits
from control_plane.server.resources import snapshot_of
from control_plane.xds.events import Event
from control_plane.xds.messages import Reply
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import SECRET
from tests.xds_client import DeltaClient, plaintext_channel


@dataclass(frozen=True, slots=True)
class World:
    """A running server, and a connection to it."""

    nodes: Nodes
    service: DiscoveryService
    server: grpc.aio.Server
    address: str
    channel: grpc.aio.Channel

    def set(self, node_id: str, *resources: Resource) -> None:
        """Say all that a node should have."""
        self.nodes.set(node_id, snapshot_of(resources))


@asynccontextmanager
async def served(
    *,
    nodes: Nodes | None = None,
    admission: Admission | None = None,
    limits: ServerLimits | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """Serve on a free port of loopback, in plaintext."""
    limits = limits or ServerLimits()
    nodes = nodes or Nodes()
    service = DiscoveryService(
        nodes, clock=clock or SystemClock(), admission=admission, limits=limits
    )
    server = grpc.aio.server(options=limits.channel_options())
    service.add_to(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with plaintext_channel(address) as channel:
            yield World(nodes, service, server, address, channel)
    finally:
        service.shut_down()
        await Closing(server).cut(1.0)


def resource(type_url: TypeUrl, name: str, body: str = "") -> Resource:
    """Return a resource of any type; nobody here looks inside."""
    return Resource.of(type_url, name, body.encode())


def names(resources: Iterable[Resource]) -> list[str]:
    """Return the names of the resources of a delta response."""
    return [each.name for each in resources]


class Counting:
    """An observer that counts responses by node, and fails at the requests of one node."""

    def __init__(self, failing: str = "") -> None:
        """Start at nothing."""
        self.sent_to: dict[str, int] = {}
        self._failing = failing

    def opened(self, live: LiveStream) -> None:
        """Look away."""

    def told(self, live: LiveStream, _: Sequence[Event]) -> None:
        """Fail for one node."""
        if live.node_id == self._failing:
            raise RuntimeError("a defect that mentions PRIVATE THINGS")

    def sent(self, live: LiveStream, _: Reply) -> None:
        """Count."""
        self.sent_to[live.node_id] = self.sent_to.get(live.node_id, 0) + 1

    def closed(self, live: LiveStream) -> None:
        """Fail for one node."""
        if live.node_id == self._failing:
            raise RuntimeError("another defect")


async def is_served(world: World, client: DeltaClient, body: str) -> bool:
    """Tell whether a change reaches a client that has asked for secret ``a`` of node ``well``."""
    world.set("well", resource(SECRET, "a", body))
    response = await client.receive()
    await client.ack(response)
    return [each.resource.value for each in response.resources] == [body.encode()]
