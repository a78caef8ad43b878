"""A DNS server on loopback with names of the test's own, and the means to ask it.

The rule of this module: real sockets, and nothing of the server's own code on the asking side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import dns.asyncquery
import dns.message

from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.resolver import Resolver
from control_plane.sidecar.dns.server import DnsServer
from control_plane.sidecar.dns.tcp import TcpLimits
from control_plane.sidecar.dns.upstream import UpstreamLimits, Upstreams
from tests.unit.sidecar_dns.tables import table_of

PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed."""

ANY_PORT = SocketAddress("127.0.0.1", 0)

APP_B = "app-b.apps.internal"
ADDRESSES = ["10.255.0.4", "10.255.0.5", "10.255.0.6"]
MANY = [f"10.255.1.{number}" for number in range(1, 201)]
NAMES: Mapping[str, list[str]] = {
    APP_B: ADDRESSES,
    f"0.{APP_B}": ADDRESSES[:1],
    "six.apps.internal": ["fd00::4", "fd00::5"],
    "both.apps.internal": ["10.255.0.4", "fd00::4"],
    "many.apps.internal": MANY,
    "empty.apps.internal": [],
}


@dataclass(frozen=True, slots=True)
class World:
    """A running DNS server."""

    address: SocketAddress
    resolver: Resolver

    def set(self, names: Mapping[str, Iterable[str]]) -> None:
        """Put another table into force."""
        self.resolver.use(table_of(names))

    async def udp(self, name: str, rdtype: str = "A", **query: object) -> dns.message.Message:
        """Ask over UDP."""
        return await dns.asyncquery.udp(
            dns.message.make_query(name, rdtype, **query),  # type: ignore[arg-type] # as given
            self.address.host,
            port=self.address.port,
            timeout=PATIENCE,
        )

    async def tcp(self, name: str, rdtype: str = "A", **query: object) -> dns.message.Message:
        """Ask over TCP."""
        return await dns.asyncquery.tcp(
            dns.message.make_query(name, rdtype, **query),  # type: ignore[arg-type] # as given
            self.address.host,
            port=self.address.port,
            timeout=PATIENCE,
        )


@asynccontextmanager
async def served(
    *upstreams: SocketAddress,
    names: Mapping[str, Iterable[str]] | None = NAMES,
    listen: SocketAddress = ANY_PORT,
    tcp: TcpLimits | None = None,
    limits: UpstreamLimits | None = None,
) -> AsyncIterator[World]:
    """Serve these names, and forward all others."""
    resolver = Resolver(Upstreams(lambda: upstreams, limits), Random(1))
    if names is not None:
        resolver.use(table_of(names))
    server = DnsServer(listen, resolver, tcp)
    async with server.listening():
        yield World(server.address, resolver)
