"""Streams that come while the server is busy: they wait, and how many and how long is bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from control_plane.server.limits import ServerLimits
from control_plane.xds.resource_type import SECRET
from tests.server.world import World, resource, served
from tests.waiting import eventually
from tests.xds_client import ADS, PATIENCE, DeltaClient

STREAMS = 60
"""Streams that come at once, over one connection."""

BUSY_SECONDS = 2.5
"""How long the event loop does something else, so that nobody looks at them."""


class Storm:
    """Clients in a thread of their own, so that they go on while the event loop is busy."""

    def __init__(self, address: str) -> None:
        """Know where to connect."""
        self._address = address
        self._done = threading.Event()
        self.connected = threading.Event()
        self.go = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        """Open all streams at once, and count how each began."""
        with grpc.insecure_channel(
            self._address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            grpc.channel_ready_future(channel).result(PATIENCE)
            self.connected.set()
            self.go.wait(PATIENCE)
            method: grpc.StreamStreamMultiCallable[bytes, bytes]
            method = channel.stream_stream(ADS + DeltaClient.method)
            calls = [method(self._requests(number), timeout=20) for number in range(STREAMS)]
            for call in calls:
                try:
                    next(call)
                except grpc.RpcError as error:
                    self.outcomes[error.code().name] += 1
                else:
                    self.outcomes["served"] += 1
            self._done.set()

    def _requests(self, number: int) -> Iterator[bytes]:
        node = {"id": f"node-{number}"}
        request = DeltaClient.request_type(
            type_url=SECRET, resource_names_subscribe=["a"], node=node
        )
        yield request.SerializeToString()
        self._done.wait()


async def storm(world: World) -> Counter[str]:
    """Have all streams come while the server is busy; return how each began."""
    for number in range(STREAMS):
        world.set(f"node-{number}", resource(SECRET, "a", "1"))
    coming = Storm(world.address)
    clients = asyncio.create_task(asyncio.to_thread(coming.run))
    await eventually(coming.connected.is_set, "the connection is there")
    coming.go.set()
    time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - this is what keeps the loop busy
    await clients
    return coming.outcomes


async def test_who_comes_while_the_server_is_busy_waits() -> None:
    """Nobody is sent away who would only come back with another handshake."""
    async with served() as world:
        assert await storm(world) == {"served": STREAMS}


@pytest.mark.parametrize(
    ("limits", "most"),
    [(ServerLimits(waiting_streams=10), 20), (ServerLimits(waiting_seconds=1), 5)],
    ids=["how many", "how long"],
)
async def test_what_may_wait_is_bounded(limits: ServerLimits, most: int) -> None:
    """Beyond that gRPC breaks streams, so that what waits cannot fill the memory."""
    async with served(limits=limits) as world:
        outcomes = await storm(world)

    assert 0 < outcomes["served"] <= most
    assert outcomes["CANCELLED"] == STREAMS - outcomes["served"]
