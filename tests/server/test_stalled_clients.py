"""Clients that stop reading: what waits for them is bounded, and nobody else waits."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import median
from typing import Self

import grpc

from control_plane.errors import PermissionDenied
from control_plane.xds.resource_type import CLUSTER, SECRET
from tests.faults.leftovers import nothing_left
from tests.server.world import Counting, World, is_served, resource, served
from tests.waiting import eventually
from tests.xds_client import ADS, PATIENCE, DeltaClient, Response

BIG = 16 * 1024 * 1024
"""Octets of a resource that no window of HTTP/2 has room for."""


class Stalled:
    """A client that has asked for a large cluster, and reads nothing until it is told to."""

    def __init__(self, world: World, counting: Counting) -> None:
        """Connect to a server whose responses are counted."""
        self._world = world
        self._counting = counting

    async def __aenter__(self) -> Self:
        """Ask, and wait until the response is on its way."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(self._world.address, options=options)
        self._world.set("ill", resource(CLUSTER, "c", "0" * BIG))
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        call = self._channel.stream_stream(ADS + DeltaClient.method)
        self._stream = call()
        await self.send(node={"id": "ill"})
        await eventually(lambda: self._counting.sent_to.get("ill") == 1, "a response is sent")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut the connection."""
        await self._channel.close()

    async def send(self, **fields: object) -> None:
        """Send a request for clusters."""
        request = DeltaClient.request_type(type_url=CLUSTER, **fields)
        await self._stream.write(request.SerializeToString())

    async def read(self) -> Response:
        """Read one response after all."""
        raw = await asyncio.wait_for(self._stream.read(), PATIENCE)
        assert isinstance(raw, bytes)
        return DeltaClient.response_type.FromString(raw)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended."""
        async with asyncio.timeout(PATIENCE):
            return await self._stream.code(), await self._stream.details()


async def test_a_client_that_stops_reading_holds_up_nobody() -> None:
    """Its changes merge into one response that waits; no other stream and no memory pays."""
    counting = Counting()
    async with served() as world, DeltaClient(world.channel, "well") as well:
        world.nodes.observe(counting)
        await well.subscribe(SECRET, "a")
        await eventually(lambda: bool(world.nodes.streams("well")), "the stream is open")
        async with nothing_left(world.nodes.all_streams), Stalled(world, counting) as stalled:
            before = resident_octets()
            for number in range(1, 31):
                world.set("ill", resource(CLUSTER, "c", chr(ord("A") + number) * BIG))
                assert await is_served(world, well, str(number))

            assert counting.sent_to == {"ill": 1, "well": 30}
            assert resident_octets() - before < 10 * BIG

            first = await stalled.read()
            await stalled.send(response_nonce=first.nonce)
            second = await stalled.read()

            assert first.resources[0].resource.value == b"0" * BIG
            assert second.resources[0].resource.value == b"_" * BIG  # the last of the thirty
            assert counting.sent_to["ill"] == 2


async def test_a_client_that_stops_reading_slows_nobody_down() -> None:
    """A change reaches another as fast beside one as without: paired runs, median ratio 1.2."""
    counting, ratios = Counting(), []
    async with served() as world, DeltaClient(world.channel, "well") as well:
        world.nodes.observe(counting)
        await well.subscribe(SECRET, "a")
        await eventually(lambda: bool(world.nodes.streams("well")), "the stream is open")
        for pair in range(9):
            alone = await median_seconds(world, well, f"{pair} alone")
            counting.sent_to.pop("ill", None)
            async with nothing_left(world.nodes.all_streams), Stalled(world, counting):
                beside = await median_seconds(world, well, f"{pair} beside")
            ratios.append(beside / alone)

        assert median(ratios) <= 1.2, ratios


async def median_seconds(world: World, client: DeltaClient, label: str) -> float:
    """Return how long one of 50 changes takes until its client has ACKed it."""
    seconds = []
    for number in range(50):
        start = time.perf_counter()
        assert await is_served(world, client, f"{label} {number}")
        seconds.append(time.perf_counter() - start)
    return median(seconds)


async def test_a_client_that_stops_reading_can_be_ended() -> None:
    """Its node is rid of the stream at once; the client is told once it reads again."""
    counting = Counting()
    async with served() as world:
        world.nodes.observe(counting)
        async with nothing_left(world.nodes.all_streams), Stalled(world, counting) as stalled:
            (live,) = world.nodes.streams("ill")
            live.end(PermissionDenied("this instance was removed"))
            await eventually(lambda: not world.nodes.streams("ill"), "the stream is forgotten")
            world.set("ill", resource(CLUSTER, "c", "1"))
            first = await stalled.read()

            assert len(first.resources) == 1
            assert await stalled.status() == (
                grpc.StatusCode.PERMISSION_DENIED,
                "this instance was removed",
            )
            assert counting.sent_to == {"ill": 1}


async def test_a_client_that_vanishes_in_the_middle_of_a_response_is_forgotten() -> None:
    """A connection that is cut while a response is on its way ends the stream, and no other."""
    counting = Counting()
    async with served() as world, DeltaClient(world.channel, "well") as well:
        world.nodes.observe(counting)
        await well.subscribe(SECRET, "a")
        await eventually(lambda: bool(world.nodes.streams("well")), "the stream is open")
        async with nothing_left(world.nodes.all_streams), Stalled(world, counting):
            assert world.nodes.streams("ill")

        assert not world.nodes.streams("ill")
        assert await is_served(world, well, "1")
        assert len(world.service.open_streams()) == 1


def resident_octets() -> int:
    """Return how much memory this process holds, as Linux says."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
