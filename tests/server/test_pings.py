"""Pings of the server: only for who is silent."""

from __future__ import annotations

from hyperframe.frame import Frame, PingFrame

from control_plane.settings import SocketAddress
from control_plane.xds.resource_type import SECRET
from tests.faults.proxy import Pipe, proxy
from tests.server.world import is_served, served
from tests.xds_client import DeltaClient, plaintext_channel

_HEADER = 9
"""Octets of a frame's header (RFC 9113, section 4.1)."""


async def test_a_client_that_talks_is_not_pinged() -> None:
    """A ping after each message, which gRPC sends by default, would cost a fleet a quarter more."""
    came = bytearray()

    async def watch(pipe: Pipe, data: bytes) -> None:
        if pipe.is_down:
            came.extend(data)
        await pipe.send(data)

    async with served() as world:
        host, _, port = world.address.rpartition(":")
        async with (
            proxy(SocketAddress(host, int(port))) as net,
            plaintext_channel(str(net.address)) as channel,
        ):
            net.fault = watch
            async with DeltaClient(channel, "well") as client:
                await client.subscribe(SECRET, "a")
                for version in ("1", "2", "3"):
                    assert await is_served(world, client, version)

    frames = _frames(bytes(came))
    assert len([each for each in frames if each.stream_id]) >= 3
    assert not [each for each in frames if isinstance(each, PingFrame) and not each.flags]


def _frames(data: bytes) -> list[Frame]:
    """Parse what came over one connection."""
    frames = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:_HEADER]))
        frame.parse_body(memoryview(data[_HEADER : _HEADER + length]))
        frames.append(frame)
        data = data[_HEADER + length :]
    return frames
