"""Datagrams to an app behind Envoy: how many may send them at once."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from control_plane.envoy import clusters, udp
from tests.envoy.ads import CLUSTER, LISTENER, fake_ads
from tests.envoy.harness import Envoy, start_envoy, unique_address, until


class _Mailbox(asyncio.DatagramProtocol):
    """An app that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Note it."""
        del addr
        self.received.append(data)


def _open_files(envoy: Envoy) -> int:
    return len(list(Path(f"/proc/{envoy.pid}/fd").iterdir()))


async def test_senders_of_datagrams_are_bounded() -> None:
    """Each takes a file of Envoy's, so those beyond a bound are dropped; who is there goes on."""
    app, friend, bound = _Mailbox(), unique_address(), 50
    async with fake_ads() as ads, start_envoy(ads.bootstrap) as envoy, AsyncExitStack() as stack:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: app, local_addr=("127.0.0.1", 0))
        stack.callback(transport.close)
        port = transport.get_extra_info("sockname")[1]
        address, name = unique_address(port), clusters.datagram_cluster_name(port)
        cluster = clusters.datagram_cluster(port, "127.0.0.1", sessions=bound)
        await ads.put(CLUSTER, name, cluster)
        listener = udp.udp_listener(port, address, sources=[friend])
        await ads.put(LISTENER, udp.udp_listener_name(port), listener)
        await envoy.wait_for(
            lambda stats: stats.get("listener_manager.total_listeners_active") == 1,
            what="the listener is active",
            prefix="listener_manager",
        )
        files = _open_files(envoy)
        senders = [
            stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(bound + 40)
        ]

        for number, sender in enumerate(senders):
            sender.bind((friend, 0))
            sender.sendto(b"%d" % number, (address, port))
        await envoy.wait_for(
            lambda stats: stats.get(f"cluster.{name}.upstream_cx_overflow") == 40,
            what="those beyond the bound are turned away",
            prefix=f"cluster.{name}",
        )
        assert _open_files(envoy) == files + bound

        senders[0].sendto(b"again", (address, port))

        async def is_there() -> bool:
            return b"again" in app.received

        await until(is_there, what="who is there goes on")
        assert app.received == [*(b"%d" % number for number in range(bound)), b"again"]
