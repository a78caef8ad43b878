"""A name server that never answers, on a machine that knows the control plane by itself.

It takes a network of its own, so it is a process that was given one.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys

import grpc

from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import anonymous_channel
from tests.sidecar.move import NAME, credentials

LOOPBACK = "127.0.0.1"

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # netdevice(7)


async def main() -> None:
    """Print after how many seconds a channel is connected."""
    its_own, roots = credentials()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        fcntl.ioctl(silent, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        silent.bind((LOOPBACK, 53))
        server = grpc.aio.server()
        port = server.add_secure_port(f"{LOOPBACK}:0", its_own)
        await server.start()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with anonymous_channel(SocketAddress(NAME, port), roots) as channel:
            await channel.channel_ready()
        sys.stdout.write(f"{loop.time() - began}\n")
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
