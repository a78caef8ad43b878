"""An upstream resolver that answers what a test tells it to.

The rule of this module: it remembers every query, octet by octet, and by default it is a good
resolver of one small zone. A test that wants a bad one replaces `reply`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.answer import Transport

EXTERNAL = "www.example.com"
EXTERNAL_ADDRESS = "192.0.2.1"
LONG = "long.example.com"

ZONE = (
    dns.rrset.from_text(f"{EXTERNAL}.", 300, "IN", "A", EXTERNAL_ADDRESS),
    dns.rrset.from_text(f"{EXTERNAL}.", 300, "IN", "AAAA", "2001:db8::1"),
    dns.rrset.from_text("example.com.", 300, "IN", "MX", "10 mail.example.com."),
    dns.rrset.from_text_list(f"{LONG}.", 300, "IN", "A", [f"192.0.2.{n}" for n in range(1, 151)]),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as it came.

    Attributes:
        client: the address and port that it came from.
    """

    transport: Transport
    wire: bytes
    client: tuple[str, int]


Reply = Callable[[Asked], Awaitable[Iterable[bytes]]]


async def from_zone(asked: Asked) -> Iterable[bytes]:
    """Answer as a resolver that knows the zone, and that there is nothing else."""
    query = dns.message.from_wire(asked.wire)
    response = dns.message.make_response(query, recursion_available=True, our_payload=1232)
    name, rdtype = query.question[0].name, query.question[0].rdtype
    response.answer = [each for each in ZONE if (each.name, each.rdtype) == (name, rdtype)]
    if all(each.name != name for each in ZONE):
        response.set_rcode(dns.rcode.NXDOMAIN)
    most = 65535 if asked.transport is Transport.TCP else max(512, query.payload)
    return [response.to_wire(max_size=most, prefer_truncation=True)]


def with_rcode(rcode: dns.rcode.Rcode) -> Reply:
    """Answer every query with this code."""

    async def reply(asked: Asked) -> Iterable[bytes]:
        response = dns.message.make_response(dns.message.from_wire(asked.wire))
        response.set_rcode(rcode)
        return [response.to_wire()]

    return reply


async def silent(_: Asked) -> Iterable[bytes]:
    """Answer nothing."""
    return ()


@dataclass(slots=True)
class Upstream:
    """A running stub.

    Attributes:
        reply: returns the messages with which a query is answered.
        asked: all queries so far.
    """

    address: SocketAddress
    reply: Reply = from_zone
    asked: list[Asked] = field(default_factory=list)

    async def answers(self, asked: Asked) -> Iterable[bytes]:
        """Take a query; return the messages that answer it, once it is time."""
        self.asked.append(asked)
        return await self.reply(asked)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(Asked(Transport.UDP, data, addr)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: Asked) -> None:
        for answer in await self._upstream.answers(asked):
            self._transport.sendto(answer, asked.client)


@asynccontextmanager
async def upstream_on(host: str = "127.0.0.1") -> AsyncIterator[Upstream]:
    """Run a stub on a port that is free for UDP and TCP."""
    udp, tcp = _sockets(host)
    upstream = Upstream(SocketAddress(host, udp.getsockname()[1]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                client = writer.get_extra_info("peername")
                for answer in await upstream.answers(Asked(Transport.TCP, wire, client)):
                    writer.write(len(answer).to_bytes(2) + answer)
        except (OSError, EOFError):
            writer.close()

    loop = asyncio.get_running_loop()
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Udp(upstream), sock=udp)
    server = await asyncio.start_server(serve, sock=tcp)
    try:
        yield upstream
    finally:
        datagrams.close()
        server.close()


def _sockets(host: str) -> tuple[socket.socket, socket.socket]:
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((host, 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
