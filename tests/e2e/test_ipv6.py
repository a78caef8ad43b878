"""An instance whose address is of IPv6, in front of an app at one of IPv4."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control_plane.settings import SocketAddress
from tests.e2e.site import site
from tests.envoy import apps
from tests.envoy.harness import unique_address, until
from tests.needs import need_ipv6

HERE = "::1"
THERE = SocketAddress(HERE, 0)


async def test_an_instance_of_ipv6_is_like_any_other(tmp_path: Path) -> None:
    """Certificate, proof of what is served, policies, requests and ports without TLS."""
    need_ipv6()
    address = unique_address(8080)
    async with (
        site(
            tmp_path, unproxied_port_mappings=True, xds_address=THERE, enroll_address=THERE
        ) as cloud,
        apps.tcp_app(apps.http1(), address=address, port=8080) as app,
    ):
        await cloud.create_app("app-b")
        async with cloud.start("app-b", app, address=HERE) as b:
            assert (await cloud.map("app-b", "app-b")).complete
            assert await b.get("app-b", HERE) == 403
            await cloud.allow("app-b", "app-b")
            await cloud.allow("app-b", "app-b", "8080")
            await cloud.allow("app-b", "app-b", "8080", protocol="udp")

            async with b.connect("app-b", HERE) as connection:
                assert (await connection.request()).status == 200
                assert connection.leaf.addresses == (HERE,)
                await _talks_in_plaintext(app)

                await cloud.forbid("app-b", "app-b")
                assert (await connection.request()).body == b"RBAC: access denied"
            assert await b.get("app-b", HERE) == 403
            assert len(app.requests) == 2


async def _talks_in_plaintext(app: apps.App) -> None:
    """Send a request and a datagram to the app's own port."""
    reader, writer = await asyncio.open_connection(HERE, app.port, local_addr=(HERE, 0))
    writer.write(b"GET / HTTP/1.1\r\nHost: app-b\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 Fine\r\n"
    writer.close()

    received: asyncio.Queue[bytes] = asyncio.Queue()

    class Mailbox(asyncio.DatagramProtocol):
        """The app's end, which keeps what comes."""

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            """Note it."""
            del addr
            received.put_nowait(data)

    loop = asyncio.get_running_loop()
    there, _ = await loop.create_datagram_endpoint(Mailbox, local_addr=(app.address, app.port))
    here, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(HERE, 0), remote_addr=(HERE, app.port)
    )

    async def arrives() -> bool:
        here.sendto(b"hello")
        await asyncio.sleep(0.01)
        return not received.empty()

    try:
        await until(arrives, what="a datagram reaches the app")
        assert await received.get() == b"hello"
    finally:
        here.close()
        there.close()
