"""A control plane whose name comes to mean another address, seen from a sidecar's channel.

It takes a file of names that is its own to write, so it is a process that was given one.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from control_plane.ca import Profile, ServerRequest, create_authority, issue, new_key_pair
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN
from control_plane.names import SERVER_NAME
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import anonymous_channel

NAME = "control-plane.example"
BEFORE, AFTER = "127.0.0.2", "127.0.0.3"
READY = grpc.ChannelConnectivity.READY


def credentials() -> tuple[grpc.ServerCredentials, bytes]:
    """Return those of a control plane, and the CA by which a sidecar knows it."""
    now = datetime.now(UTC)
    authority = create_authority(
        "c2c CA", now=now, lifetime=timedelta(days=1), key=new_key_pair(), serial=1
    )
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ())
    leaf = issue(authority, Profile(), request, key=new_key_pair, now=now, serial=2)
    pair = (leaf.private_key_pem or b"", leaf.certificate_chain_pem)
    return grpc.ssl_server_credentials([pair]), authority.trust_bundle_pem


async def main(names: Path) -> None:
    """Print how many seconds a channel is away when its server moves."""
    its_own, roots = credentials()
    with socket.socket() as free:
        free.bind((AFTER, 0))
        port = free.getsockname()[1]

    async def start(address: str) -> grpc.aio.Server:
        names.write_text(f"{address} {NAME}\n")
        server = grpc.aio.server()
        server.add_secure_port(f"{address}:{port}", its_own)
        await server.start()
        return server

    server = await start(BEFORE)
    channel = anonymous_channel(SocketAddress(NAME, port), roots)
    async with channel, asyncio.timeout(60):
        await channel.channel_ready()
        await server.stop(None)
        server = await start(AFTER)
        loop = asyncio.get_running_loop()
        moved = loop.time()
        await channel.wait_for_state_change(READY)
        while (state := channel.get_state(try_to_connect=True)) is not READY:
            await channel.wait_for_state_change(state)
        sys.stdout.write(f"{loop.time() - moved}\n")
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
