"""A control plane at a link-local address, which means nothing without its zone (RFC 4007).

It takes a network of its own, so it is a process that was given one.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys

import grpc

from control_plane.ca import read_certificates
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import anonymous_channel
from control_plane.sidecar.enrolment.pin import pinned
from tests.sidecar.move import credentials

# In a URI, a % before these two letters would be read as one octet.
ZONE = "eb0"
HOST = f"fe80::1%{ZONE}"

# The requests of netdevice(7); ipv6(7) has what the last one takes.
_SIOCSIFNAME, _SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8923, 0x8914, 0x8916, 1


def _take_address() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFNAME, struct.pack("16s16s", b"lo", ZONE.encode()))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", ZONE.encode(), _IFF_UP))
        octets = socket.inet_pton(socket.AF_INET6, "fe80::1")
        index = socket.if_nametoindex(ZONE)
        fcntl.ioctl(any_socket, _SIOCSIFADDR, struct.pack("16sIi", octets, 64, index))


async def main() -> None:
    """Print after how many seconds a sidecar has a channel to where the server proved itself."""
    _take_address()
    its_own, roots = credentials()
    (root,) = read_certificates(roots)
    server = grpc.aio.server()
    port = server.add_secure_port("[::]:0", its_own)
    await server.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    named = SocketAddress(HOST, port)
    async with asyncio.timeout(10):
        proven = await pinned(named, root.fingerprint)
        for each in (named, proven.server):
            async with anonymous_channel(each, proven.roots) as channel:
                await channel.channel_ready()
    sys.stdout.write(f"{loop.time() - began}\n")
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
