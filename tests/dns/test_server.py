"""The server's sockets: UDP and TCP side by side, and clients that behave badly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.errors import ConfigurationError
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.message import framed
from control_plane.sidecar.dns.resolver import Resolver
from control_plane.sidecar.dns.server import DnsServer
from control_plane.sidecar.dns.tcp import TcpLimits
from control_plane.sidecar.dns.upstream import Upstreams
from tests.dns.upstream_stub import EXTERNAL, EXTERNAL_ADDRESS, Asked, from_zone, upstream_on
from tests.dns.world import ADDRESSES, ANY_PORT, APP_B, MANY, PATIENCE, World, served
from tests.needs import need_ipv6
from tests.unit.sidecar_dns.tables import addresses_in
from tests.waiting import eventually

HASTY = TcpLimits(idle=0.1, sending=0.1)


class Connection:
    """A TCP connection on which a test writes what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use an open connection."""
        self.reader = reader
        self.writer = writer

    def ask(self, name: str, number: int) -> None:
        """Send a query with this ID, without waiting for anything."""
        self.writer.write(framed(dns.message.make_query(name, "A", id=number).to_wire()))

    async def answer(self) -> dns.message.Message:
        """Return the next answer."""
        length = int.from_bytes(await self.reader.readexactly(2))
        return dns.message.from_wire(await self.reader.readexactly(length))

    async def is_closed(self) -> bool:
        """Wait until the server closes; tell whether nothing came before."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Connection]:
    """Open a connection to the server."""
    reader, writer = await asyncio.open_connection(world.address.host, world.address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def test_udp_and_tcp_are_served_on_one_port() -> None:
    """The same names are found both ways, on the port that the server was given."""
    async with served() as world:
        assert world.address.port
        assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES
        assert sorted(addresses_in(await world.tcp(APP_B))) == ADDRESSES


async def test_what_was_truncated_is_had_over_tcp() -> None:
    """200 addresses are truncated over UDP, and all there over TCP."""
    async with served() as world:
        assert (await world.udp("many.apps.internal")).flags & dns.flags.TC
        assert sorted(addresses_in(await world.tcp("many.apps.internal"))) == sorted(MANY)


async def test_ipv6_can_be_listened_on() -> None:
    """An IPv6 address serves like any other."""
    need_ipv6()
    async with served(listen=SocketAddress("::1", 0)) as world:
        assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES
        assert sorted(addresses_in(await world.tcp(APP_B))) == ADDRESSES


async def test_garbage_over_udp_harms_nobody() -> None:
    """Datagrams of any content are no trouble, and the next query has its answer."""
    async with served() as world:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((world.address.host, world.address.port))
            for garbage in (b"", b"\0", b"\xff" * 11, b"\xff" * 600, bytes(65000)):
                client.send(garbage)

        assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES


async def test_a_burst_of_queries_is_answered_whole() -> None:
    """200 datagrams that wait in the socket are all answered."""
    query = dns.message.make_query(APP_B, "A")
    loop = asyncio.get_running_loop()
    async with served() as world:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0)
            client.connect((world.address.host, world.address.port))
            for number in range(200):
                query.id = number
                client.send(query.to_wire())
            answers = {(await loop.sock_recv(client, 512))[:2] for _ in range(200)}

    assert answers == {number.to_bytes(2) for number in range(200)}


async def test_an_answer_that_cannot_be_sent_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A datagram that the kernel refuses is lost like one on the way, and the next is sent."""
    refusals = 1
    sendto = socket.socket.sendto

    class Full(socket.socket):
        def sendto(self, *arguments: Any) -> int:  # noqa: ANN401 - as its base has it
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise BlockingIOError
            return sendto(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("control_plane.sidecar.dns.server.socket.socket", Full)
        async with served() as world:
            patch.undo()
            query = dns.message.make_query(APP_B, "A")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(0)
                client.connect((world.address.host, world.address.port))
                client.send(query.to_wire())
                await eventually(lambda: refusals == 0, "a refusal")

            assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES


async def test_queries_may_be_pipelined() -> None:
    """50 queries written at once, cut anywhere, have 50 answers on their connection (RFC 7766)."""
    queries = b"".join(
        framed(dns.message.make_query(APP_B, "A", id=number).to_wire()) for number in range(50)
    )
    async with served() as world, connected(world) as connection:
        for start in range(0, len(queries), 7):
            connection.writer.write(queries[start : start + 7])
            await asyncio.sleep(0)
        answers = [await connection.answer() for _ in range(50)]

    assert [answer.id for answer in answers] == list(range(50))


async def test_answers_leave_as_soon_as_they_are_there() -> None:
    """An answer from the table overtakes one that an upstream resolver still owes."""
    free = asyncio.Event()

    async def reply(asked: Asked) -> Iterable[bytes]:
        await free.wait()
        return await from_zone(asked)

    async with upstream_on() as upstream, served(upstream.address) as world:
        upstream.reply = reply
        async with connected(world) as connection:
            connection.ask(EXTERNAL, 1)
            connection.ask(APP_B, 2)
            first = await connection.answer()
            free.set()
            second = await connection.answer()

    assert (first.id, second.id) == (2, 1)
    assert addresses_in(second) == [EXTERNAL_ADDRESS]


async def test_a_client_that_has_no_more_to_ask_gets_what_it_asked() -> None:
    """A client that closes its side has its answer before the server closes the other."""
    async with (
        upstream_on() as upstream,
        served(upstream.address) as world,
        connected(world) as connection,
    ):
        connection.ask(EXTERNAL, 1)
        connection.writer.write_eof()

        assert addresses_in(await connection.answer()) == [EXTERNAL_ADDRESS]
        assert await connection.is_closed()


async def test_upstream_queries_of_one_connection_are_bounded() -> None:
    """A connection with all its places taken is not read further, and goes on once one is free."""
    free = asyncio.Event()

    async def reply(asked: Asked) -> Iterable[bytes]:
        await free.wait()
        return await from_zone(asked)

    limits = TcpLimits(forwarded=2)
    async with upstream_on() as upstream, served(upstream.address, tcp=limits) as world:
        upstream.reply = reply
        async with connected(world) as greedy, connected(world) as other:
            for number in range(5):
                greedy.ask(EXTERNAL, number)
            await eventually(lambda: len(upstream.asked) == 2, "two queries upstream")
            other.ask(APP_B, 9)
            assert (await other.answer()).id == 9
            assert len(upstream.asked) == 2
            free.set()
            numbers = {(await greedy.answer()).id for _ in range(5)}

    assert numbers == set(range(5))


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\x20half of a query"])
async def test_an_idle_connection_is_closed(sent: bytes) -> None:
    """A connection on which no whole query comes for the idle time is closed."""
    async with served(tcp=HASTY) as world, connected(world) as connection:
        connection.writer.write(sent)

        assert await connection.is_closed()


async def test_a_connection_that_waits_for_upstream_is_not_idle() -> None:
    """The answer of a slow upstream resolver still comes after the idle time."""
    waited = asyncio.Event()

    async def reply(asked: Asked) -> Iterable[bytes]:
        await waited.wait()
        return await from_zone(asked)

    async with upstream_on() as upstream, served(upstream.address, tcp=HASTY) as world:
        upstream.reply = reply
        async with connected(world) as waiting, connected(world) as idle:
            waiting.ask(EXTERNAL, 1)
            assert await idle.is_closed()
            waited.set()

            assert addresses_in(await waiting.answer()) == [EXTERNAL_ADDRESS]
            assert await waiting.is_closed()


async def test_messages_that_are_no_queries_are_passed_over() -> None:
    """An empty message, a short one and an answer have no answer; the query behind them has."""
    answer = dns.message.make_response(dns.message.make_query(APP_B, "A")).to_wire()
    async with served() as world, connected(world) as connection:
        for garbage in (b"", b"\0\1\2", answer):
            connection.writer.write(framed(garbage))
        connection.ask(APP_B, 5)

        assert (await connection.answer()).id == 5


async def test_a_client_that_does_not_read_is_dropped() -> None:
    """A client that asks and never reads loses its connection, and nobody else waits for it."""
    async with served(tcp=HASTY) as world:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with client:
            client.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (world.address.host, world.address.port))
            query = framed(dns.message.make_query("many.apps.internal", "A").to_wire())
            # More than all buffers on the way can hold of the answers, and of the queries.
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(loop.sock_sendall(client, query * 400_000), PATIENCE)

        assert sorted(addresses_in(await world.tcp(APP_B))) == ADDRESSES


async def test_connections_are_bounded() -> None:
    """One connection too many is closed at once; UDP, and whoever has one, is not disturbed."""
    async with served(tcp=TcpLimits(connections=2)) as world:
        async with connected(world) as first, connected(world) as second:
            for each in (first, second):
                each.ask(APP_B, 1)
                await each.answer()
            async with connected(world) as third:
                assert await third.is_closed()
            first.ask(APP_B, 2)
            assert (await first.answer()).id == 2
            assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES
        assert sorted(addresses_in(await over_tcp_once_there_is_a_place(world))) == ADDRESSES


async def over_tcp_once_there_is_a_place(world: World) -> dns.message.Message:
    """Ask until the server has noticed that connections were closed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(OSError, EOFError):
                return await world.tcp(APP_B)


async def test_no_query_is_unanswered_while_the_table_changes() -> None:
    """Every query during 500 changes of the table is answered by the old or the new one."""
    old, new = ["10.255.0.1"], ["10.255.0.2", "10.255.0.3"]

    async def keep_asking(world: World) -> list[list[str]]:
        seen: list[list[str]] = []
        while not done.is_set():
            seen.append(sorted(addresses_in(await world.udp(APP_B))))
        return seen

    done = asyncio.Event()
    async with served(names={APP_B: old}) as world, asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(keep_asking(world)) for _ in range(4)]
        for number in range(500):
            world.set({APP_B: new if number % 2 else old})
            await asyncio.sleep(0.001)
        done.set()

    seen = [each for client in clients for each in client.result()]
    assert len(seen) > 100
    assert {tuple(each) for each in seen} == {tuple(old), tuple(new)}


async def test_without_a_table_queries_are_told_to_come_again() -> None:
    """Before the first table every query gets SERVFAIL, and answers once there is one."""
    async with served(names=None) as world:
        assert (await world.udp(APP_B)).rcode() == dns.rcode.SERVFAIL
        world.set({APP_B: ADDRESSES})
        assert sorted(addresses_in(await world.udp(APP_B))) == ADDRESSES


def server_on(address: SocketAddress) -> DnsServer:
    """Return a server that does not listen yet."""
    return DnsServer(address, Resolver(Upstreams(lambda: ()), Random(1)))


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_an_address_that_is_taken_is_said_so(kind: socket.SocketKind) -> None:
    """A port that somebody has for UDP or TCP is refused, with what to do."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        address = SocketAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigurationError) as refused:
            async with server_on(address).listening():
                pass

    assert str(refused.value) == (
        f"cannot serve DNS on {address}: Address already in use; another DNS server has this "
        "address: choose another one or another port"
    )


async def test_an_address_that_the_machine_lacks_is_said_so() -> None:
    """An address of somebody else's is refused, with what to do."""
    with pytest.raises(ConfigurationError, match="this machine does not have the address"):
        async with server_on(SocketAddress("192.0.2.1", 0)).listening():
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_one_address_is_listened_on(host: str) -> None:
    """To listen everywhere is refused: an answer must leave from the address that was asked."""
    with pytest.raises(ConfigurationError, match="name the one to use"):
        server_on(SocketAddress(host, 53))


@pytest.mark.parametrize(("host", "warnings"), [("127.0.0.1", 0), ("192.0.2.1", 1)])
async def test_it_is_said_where_others_can_ask(
    host: str, warnings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who serves DNS where others reach it is warned: they learn names, and ask its resolvers."""
    bind = socket.socket.bind

    class AtHome(socket.socket):
        def bind(self, address: Any) -> None:  # noqa: ANN401 - as its base has it
            bind(self, ("127.0.0.1", address[1]))

    monkeypatch.setattr("control_plane.sidecar.dns.server.socket.socket", AtHome)
    with capture_logs() as logs:
        server = server_on(SocketAddress(host, 0))
        async with server.listening():
            address = str(server.address)

    warned = [each for each in logs if each["event"] == log_events.DNS_EXPOSED]
    assert [each["address"] for each in warned] == [address] * warnings


async def test_a_port_that_is_free_for_udp_only_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any free port means one that is free both ways: another is tried until it is."""
    taken = 3
    bind = socket.socket.bind

    class Crowded(socket.socket):
        def bind(self, address: Any) -> None:  # noqa: ANN401 - as its base has it
            nonlocal taken
            if self.type is socket.SOCK_STREAM and taken:
                taken -= 1
                raise OSError(98, "Address already in use")
            bind(self, address)

    server = server_on(ANY_PORT)
    monkeypatch.setattr("control_plane.sidecar.dns.server.socket.socket", Crowded)
    async with server.listening():
        assert server.address.port
    assert taken == 0


async def test_the_server_stops_with_connections_open() -> None:
    """Stopping closes every connection, also one that waits for an upstream resolver."""
    stuck = asyncio.Event()

    async def reply(_: Asked) -> Iterable[bytes]:
        await stuck.wait()
        return ()

    async with upstream_on() as upstream:
        upstream.reply = reply
        async with served(upstream.address) as world:
            reader, writer = await asyncio.open_connection(world.address.host, world.address.port)
            connection = Connection(reader, writer)
            connection.ask(EXTERNAL, 1)
            await eventually(lambda: len(upstream.asked) == 1, "the query upstream")
        stuck.set()

        assert await connection.is_closed()
        writer.close()


async def test_a_defect_in_one_connection_is_logged_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error in the code that serves a connection ends this connection only."""
    async with served() as world:
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(Resolver, "respond", lambda *_: 1 / 0)
            async with connected(world) as connection:
                connection.ask(APP_B, 1)
                assert await connection.is_closed()
            await eventually(lambda: bool(logs), "a line in the log")

        assert [each["event"] for each in logs] == [log_events.CALL_FAILED]
        assert sorted(addresses_in(await world.tcp(APP_B))) == ADDRESSES
