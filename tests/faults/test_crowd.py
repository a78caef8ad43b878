"""Many clients at once: all are served, those over the limit a moment later, and none is left."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from control_plane.server.limits import ServerLimits
from control_plane.settings import SocketAddress
from control_plane.xds.resource_type import SECRET
from tests.faults.leftovers import nothing_left
from tests.faults.proxy import Proxy, proxy
from tests.server.world import resource, served
from tests.waiting import eventually
from tests.xds_client import DeltaClient, StreamEnded, plaintext_channel

CLIENTS = 300


async def _connect(stack: AsyncExitStack, address: str, node_id: str) -> DeltaClient:
    """Return a client that has its secret; come again as often as the server says so."""
    channel = await stack.enter_async_context(plaintext_channel(address))
    while True:
        client = await stack.enter_async_context(DeltaClient(channel, node_id))
        try:
            await client.subscribe(SECRET, "a")
            await client.ack(await client.receive(60))
        except (StreamEnded, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.sleep(random.uniform(0.05, 0.3))
        else:
            return client


@asynccontextmanager
async def crowd(net: Proxy) -> AsyncIterator[list[DeltaClient]]:
    """Connect everybody at once, each over a connection of its own."""
    async with AsyncExitStack() as stack:
        yield list(
            await asyncio.gather(
                *(_connect(stack, str(net.address), f"node-{each}") for each in range(CLIENTS))
            )
        )


async def test_a_crowd_that_reconnects_again_and_again_leaves_nothing() -> None:
    """Streams, tasks and objects are as many as before, and everybody was served each time."""
    # What each node may open is counted as long as it is less than usual: so many a minute, and
    # nothing is counted any more when it is looked at.
    limits = ServerLimits(
        # A crowd that takes less than 3.5 s to come, also on a slow machine, is over the limit.
        new_streams_burst=20,
        new_streams_per_second=80,
        new_streams_per_node_and_minute=1_000_000,
    )
    async with served(limits=limits) as world:
        for each in range(CLIENTS):
            world.set(f"node-{each}", resource(SECRET, "a", "1"))
        host, _, port = world.address.partition(":")
        objects = []
        for _ in range(3):
            async with (
                nothing_left(world.nodes.all_streams),
                proxy(SocketAddress(host, int(port))) as net,
                crowd(net) as clients,
            ):
                assert len(world.nodes.all_streams()) == CLIENTS
                net.reset()
                await asyncio.gather(*(client.status() for client in clients))
            objects.append(await _objects())

        assert not world.service.open_streams()
        assert world.service.ended[grpc.StatusCode.UNAVAILABLE] > 0, "the limit was in force"
        # One object that is left of each client would be twice that many.
        most = min(objects[:-1]) + CLIENTS
        await eventually(lambda: _count() < most, f"no more than {most} objects; were {objects}")


async def _objects() -> int:
    """Return how many objects there are once they do not become fewer: gRPC's threads are slow."""
    before, now = sys.maxsize, _count()
    while now < before:
        await asyncio.sleep(0.1)
        before, now = now, _count()
    return now


def _count() -> int:
    gc.collect()
    return len(gc.get_objects())
