"""Names that are not internal: who is asked, how, and what is believed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.answer import Transport
from control_plane.sidecar.dns.upstream import UpstreamLimits
from tests.dns.upstream_stub import (
    EXTERNAL,
    EXTERNAL_ADDRESS,
    LONG,
    Asked,
    Reply,
    from_zone,
    silent,
    upstream_on,
    with_rcode,
)
from tests.dns.world import APP_B, World, served
from tests.unit.sidecar_dns.tables import addresses_in
from tests.waiting import eventually

HASTY = UpstreamLimits(patience=0.05, total=0.5)


async def asked(world: World, transport: Transport, name: str = EXTERNAL) -> dns.message.Message:
    """Ask the server one way or the other."""
    return await (world.tcp(name) if transport is Transport.TCP else world.udp(name))


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_query_goes_on_as_it_came(transport: Transport) -> None:
    """Query and answer pass octet by octet but for the ID, the way that the client chose."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        option = dns.edns.GenericOption("NSID", b"anything")
        answer = await (world.tcp if transport is Transport.TCP else world.udp)(
            "wWw.eXample.com", "A", use_edns=0, want_dnssec=True, options=[option], id=0x1234
        )

    assert answer.id == 0x1234
    assert addresses_in(answer) == [EXTERNAL_ADDRESS]
    assert answer.answer[0].ttl == 300
    assert not answer.flags & dns.flags.AA
    (sent,) = upstream.asked
    assert sent.transport is transport
    query = dns.message.make_query(
        "wWw.eXample.com", "A", use_edns=0, want_dnssec=True, options=[option], id=0x1234
    )
    assert sent.wire[2:] == query.to_wire()[2:]


@pytest.mark.parametrize("transport", list(Transport))
async def test_what_does_not_exist_elsewhere_does_not_exist(transport: Transport) -> None:
    """NXDOMAIN of an upstream resolver is an answer like any other."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        answer = await asked(world, transport, "nobody.example.com")

    assert answer.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", [APP_B, "nobody.apps.internal", "apps.internal", "NOBODY.Apps.Internal"]
)
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "MX", "SOA", "TXT"])
async def test_internal_names_never_leave(name: str, rdtype: str) -> None:
    """No question about an internal name is ever sent upstream, known or not."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        answer = await world.udp(name, rdtype)

    assert answer.rcode() == dns.rcode.NOERROR
    assert upstream.asked == []


async def test_a_truncated_answer_is_the_clients_to_take_to_tcp() -> None:
    """TC comes through over UDP; over TCP, the client gets the whole answer over TCP."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        short = await world.udp(LONG)
        whole = await world.tcp(LONG)

    assert short.flags & dns.flags.TC
    assert not whole.flags & dns.flags.TC
    assert len(addresses_in(whole)) == 150
    assert [each.transport for each in upstream.asked] == [Transport.UDP, Transport.TCP]


async def test_ports_and_ids_are_random() -> None:
    """Each query leaves from a port of its own with an ID of ours, whatever the client's was."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        for _ in range(20):
            await world.udp(EXTERNAL, id=7)

    assert len({each.client[1] for each in upstream.asked}) > 15
    assert len({each.wire[:2] for each in upstream.asked}) > 15


def forged(what: str) -> bytes:
    """Return the wrong answer that somebody guesses to the query of this test."""
    name = "other.example.com" if what == "question" else EXTERNAL
    query = dns.message.make_query(name, "A", id=7)
    response = dns.message.make_response(query)
    if what == "no answer":
        return query.to_wire()
    response.answer = [dns.rrset.from_text(query.question[0].name, 300, "IN", "A", "192.0.2.66")]
    return response.to_wire()


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("wrong", ["ID", "question", "no answer", "rubbish"])
async def test_an_answer_to_something_else_is_not_believed(
    transport: Transport, wrong: str
) -> None:
    """A message with another ID, another question or none is passed over (RFC 5452, 9.1)."""

    async def reply(query: Asked) -> Iterable[bytes]:
        match wrong:
            case "ID":
                wrong_answer = bytes([query.wire[0] ^ 1]) + query.wire[1:2] + forged(wrong)[2:]
            case "rubbish":
                wrong_answer = b"\0"
            case _:
                wrong_answer = query.wire[:2] + forged(wrong)[2:]
        return [wrong_answer, *await from_zone(query)]

    async with upstream_on() as upstream, served(upstream.address) as world:
        upstream.reply = reply
        answer = await asked(world, transport)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]


async def test_an_answer_from_elsewhere_is_not_heard() -> None:
    """A right answer that another address sends than the one that was asked does not arrive."""
    async with upstream_on() as upstream:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:

            async def reply(query: Asked) -> Iterable[bytes]:
                for answer in await from_zone(query):
                    stranger.sendto(answer, query.client)
                return ()

            upstream.reply = reply
            async with served(upstream.address, limits=HASTY) as world:
                answer = await world.udp(EXTERNAL)

    assert answer.rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("transport", list(Transport))
async def test_the_next_resolver_is_asked_if_one_cannot_be_reached(transport: Transport) -> None:
    """A port on which nobody listens costs no wait at all."""
    async with upstream_on() as gone:
        pass
    patient = UpstreamLimits(patience=60, total=60)
    async with (
        upstream_on() as upstream,
        served(gone.address, upstream.address, limits=patient) as world,
    ):
        answer = await asked(world, transport)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_silent_resolver_gets_company(transport: Transport) -> None:
    """After a moment without an answer the next one is asked too."""
    async with upstream_on() as first, upstream_on() as second:
        first.reply = silent
        async with served(first.address, second.address, limits=HASTY) as world:
            answer = await asked(world, transport)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]
    assert len(first.asked) == 1


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("other", [silent, with_rcode(dns.rcode.SERVFAIL)], ids=["silent", "fails"])
async def test_a_slow_resolver_is_still_listened_to(transport: Transport, other: Reply) -> None:
    """Once the second was asked, the answer of the first still counts if it is the better one."""
    second_was_asked = asyncio.Event()

    async def late(query: Asked) -> Iterable[bytes]:
        await second_was_asked.wait()
        await asyncio.sleep(0.02)  # by now the second has answered
        return await from_zone(query)

    async def useless(query: Asked) -> Iterable[bytes]:
        second_was_asked.set()
        return await other(query)

    limits = UpstreamLimits(patience=0.05, total=60)
    async with upstream_on() as first, upstream_on() as second:
        first.reply, second.reply = late, useless
        async with served(first.address, second.address, limits=limits) as world:
            answer = await asked(world, transport)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]
    assert len(first.asked) == len(second.asked) == 1


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
async def test_a_resolver_that_will_not_is_passed_over(rcode: dns.rcode.Rcode) -> None:
    """After SERVFAIL, REFUSED and NOTIMP the next is asked, as glibc would do by itself."""
    async with upstream_on() as first, upstream_on() as second:
        first.reply = with_rcode(rcode)
        async with served(first.address, second.address) as world:
            answer = await world.udp(EXTERNAL)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]


async def test_a_refusal_is_better_than_nothing() -> None:
    """If nobody does better, the first answer that came is the client's, whatever it says."""
    async with upstream_on() as first, upstream_on() as second:
        first.reply, second.reply = with_rcode(dns.rcode.REFUSED), silent
        async with served(first.address, second.address, limits=HASTY) as world:
            answer = await world.udp(EXTERNAL)

    assert answer.rcode() == dns.rcode.REFUSED
    assert len(second.asked) == 1


@pytest.mark.parametrize("transport", list(Transport))
async def test_if_nobody_answers_the_client_is_told(transport: Transport) -> None:
    """SERVFAIL comes when time is up, so that no query stays without an answer."""
    async with upstream_on() as upstream:
        upstream.reply = silent
        async with served(upstream.address, limits=HASTY) as world:
            answer = await asked(world, transport)

    assert answer.rcode() == dns.rcode.SERVFAIL


async def test_without_resolvers_the_client_is_told_at_once() -> None:
    """Nobody to ask is SERVFAIL without a wait, and internal names are served all the same."""
    async with served() as world:
        external = await world.udp(EXTERNAL, use_edns=0)
        internal = await world.udp(APP_B)

    assert external.rcode() == dns.rcode.SERVFAIL
    assert [option.to_text() for option in external.options] == [
        "EDE 23 (Network Error): no upstream resolver answered"
    ]
    assert internal.rcode() == dns.rcode.NOERROR


async def test_what_is_asked_at_once_is_bounded() -> None:
    """Those above the bound are told at once that they failed, and one after an answer passes.

    The log says so once, since resolvers that answer are no reason to look here.
    """
    free = asyncio.Event()

    async def reply(query: Asked) -> Iterable[bytes]:
        await free.wait()
        return await from_zone(query)

    limits = UpstreamLimits(patience=60, total=60, queries=3)
    async with upstream_on() as upstream, served(upstream.address, limits=limits) as world:
        upstream.reply = reply
        waiting = [asyncio.create_task(world.udp(EXTERNAL)) for _ in range(3)]
        await eventually(lambda: len(upstream.asked) == 3, "three queries upstream")
        with capture_logs() as logs:
            refused = [await world.udp(EXTERNAL) for _ in range(2)]
        free.set()
        answers = await asyncio.gather(*waiting)
        after = await world.udp(EXTERNAL)

    assert [each.rcode() for each in refused] == [dns.rcode.SERVFAIL] * 2
    assert [each["event"] for each in logs] == [log_events.UPSTREAMS_CROWDED]
    assert logs[0]["reason"].startswith("3 queries wait")
    assert [addresses_in(each) for each in [*answers, after]] == [[EXTERNAL_ADDRESS]] * 4


async def test_the_log_says_once_that_resolvers_fail_and_once_that_they_are_back() -> None:
    """An outage is two lines, however many queries it costs."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        with capture_logs() as logs:
            upstream.reply = silent
            world.resolver._upstreams._limits = HASTY
            await asyncio.gather(*(world.udp(EXTERNAL) for _ in range(5)))
            upstream.reply = from_zone
            await asyncio.gather(*(world.udp(EXTERNAL) for _ in range(5)))

    assert [each["event"] for each in logs] == [
        log_events.UPSTREAMS_LOST,
        log_events.UPSTREAMS_RECOVERED,
    ]


async def _without_long(asked: Asked) -> Iterable[bytes]:
    """Answer as a resolver that reaches no server of one zone."""
    name = dns.message.from_wire(asked.wire).question[0].name.to_text(omit_final_dot=True)
    return await (silent if name == LONG else from_zone)(asked)


@pytest.mark.parametrize("quiet", [600.0, 0.0])
async def test_a_zone_that_fails_is_said_once(quiet: float) -> None:
    """Answers to other names are no recovery, unless nothing has failed for long."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        upstream.reply = _without_long
        world.resolver._upstreams._limits = UpstreamLimits(patience=0.05, total=0.2, quiet=quiet)
        with capture_logs() as logs:
            for _ in range(2):
                await world.udp(LONG)
                await world.udp(EXTERNAL)

    lost = (log_events.UPSTREAMS_LOST, LONG)
    recovered = (log_events.UPSTREAMS_RECOVERED, None)
    told = [(each["event"], each.get("name")) for each in logs]
    assert told == ([lost, recovered] * 2 if quiet == 0 else [lost])


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_connection_that_breaks_off_is_a_failure(transport: Transport) -> None:
    """An upstream resolver that goes away in the middle of an answer is passed over."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"\1\0half of an ans")
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    first = SocketAddress(*server.sockets[0].getsockname()[:2])
    async with server, upstream_on() as second, served(first, second.address) as world:
        answer = await asked(world, transport)

    assert addresses_in(answer) == [EXTERNAL_ADDRESS]


async def test_a_failure_of_ours_costs_one_query() -> None:
    """An error in the code that asks is logged, told to the client, and harms nobody else."""

    def broken() -> Sequence[SocketAddress]:
        raise ValueError("of the test's own making")

    async with served() as world:
        with capture_logs() as logs:
            world.resolver._upstreams._addresses = broken
            answers = [await world.udp(EXTERNAL), await world.tcp(EXTERNAL)]
            internal = await world.udp(APP_B)

    assert [each.rcode() for each in answers] == [dns.rcode.SERVFAIL] * 2
    assert [each["event"] for each in logs] == [log_events.CALL_FAILED] * 2
    assert internal.rcode() == dns.rcode.NOERROR
