"""Connections on which nothing comes any more: either end asks, and gives up in time.

Nothing was under way when the other end fell silent, as on most streams most of the time. gRPC then
treats its ping otherwise than right after a message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc
import pytest

from control_plane.cli.channel_options import CHANNEL_OPTIONS as CLI
from control_plane.server.limits import ServerLimits
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import CHANNEL_OPTIONS as SIDECAR
from control_plane.xds.resource_type import SECRET
from tests.faults.proxy import Proxy, proxy, swallow
from tests.server.world import World, is_served, served
from tests.waiting import eventually
from tests.xds_client import DeltaClient, StreamEnded, plaintext_channel

PINGS = tuple(
    f"grpc.{each}_ms" for each in ("keepalive_time", "keepalive_timeout", "http2.ping_timeout")
)
"""The options by which an end finds out: when it asks, and how long it waits for the answer."""

HURRY = 10
"""By how much a client asks sooner here."""

SETTLED = 0.3
"""Seconds until gRPC's own ping, which it sends when a message came, was answered."""

BUSY = 1.4
"""Seconds by which a busy machine may be late."""


async def test_the_server_gives_up_a_client_that_is_silent() -> None:
    """The two times of its limits are all that a silent client is given."""
    limits = ServerLimits(keepalive_seconds=3.0, keepalive_timeout_seconds=0.2)
    async with (
        served(limits=limits) as world,
        proxy(_address(world)) as net,
        plaintext_channel(str(net.address)) as channel,
        DeltaClient(channel, "well") as client,
    ):
        silent = await _fall_silent(world, client, net)
        await eventually(lambda: not world.nodes.streams("well"), "it is given up")
        seconds = time.monotonic() - silent

    assert seconds < 3.0 + 0.2 + BUSY


@pytest.mark.parametrize("options", [SIDECAR, CLI], ids=["sidecar", "cli"])
async def test_a_client_gives_up_a_server_that_is_silent(
    options: Sequence[tuple[str, str | int]],
) -> None:
    """A sidecar does after 60 s, and c2c after 30 s; half of that or more is for the answer."""
    given = dict(options)
    asks, waits, _ = (int(given[each]) / 1000 for each in PINGS)
    hurried = [(k, int(v) // HURRY if k in PINGS else v) for k, v in options]
    async with (
        served() as world,
        proxy(_address(world)) as net,
        grpc.aio.insecure_channel(str(net.address), options=hurried) as channel,
        DeltaClient(channel, "well") as client,
    ):
        silent = await _fall_silent(world, client, net)
        with pytest.raises(StreamEnded):
            await client.receive()
        seconds = time.monotonic() - silent

    assert asks + waits == (60 if options is SIDECAR else 30)
    assert waits >= asks
    assert seconds < (asks + waits) / HURRY + BUSY


def _address(world: World) -> SocketAddress:
    host, _, port = world.address.rpartition(":")
    return SocketAddress(host, int(port))


async def _fall_silent(world: World, client: DeltaClient, net: Proxy) -> float:
    """Let a client have something, and then nothing go through any more; return since when."""
    await client.subscribe(SECRET, "a")
    assert await is_served(world, client, "1")
    await asyncio.sleep(SETTLED)
    net.fault = swallow
    return time.monotonic()
