"""What is answered: the right message to each query, and none to what is no query."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from random import Random

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from control_plane.sidecar.dns.answer import Forward, Responder, Transport, failure
from control_plane.sidecar.dns.table import NameTable
from tests.unit.sidecar_dns.tables import addresses_in, owners_in, table_of

NAME = "app-b.apps.internal"
ADDRESSES = ["10.255.0.4", "10.255.0.5", "10.255.0.6"]
MANY = [f"10.255.{number // 250}.{number % 250 + 1}" for number in range(300)]

UDP, TCP = Transport.UDP, Transport.TCP


class Server:
    """A responder and its table."""

    def __init__(self, table: NameTable | None) -> None:
        """Draw always the same orders."""
        self.table = table
        self._responder = Responder(Random(1))

    def respond(self, wire: bytes, transport: Transport) -> bytes | Forward | None:
        """Answer by the table."""
        return self._responder.respond(wire, transport, self.table)


def responder(addresses: list[str] | None = None) -> Server:
    """Return one that knows one name."""
    return Server(table_of({NAME: ADDRESSES if addresses is None else addresses}))


def asked(
    query: dns.message.Message, by: Server | None = None, transport: Transport = UDP
) -> dns.message.Message:
    """Return the answer to a query, which has to be one."""
    answer = (by or responder()).respond(query.to_wire(), transport)

    assert isinstance(answer, bytes)
    message = dns.message.from_wire(answer)
    assert message.id == query.id
    assert message.flags & dns.flags.QR
    return message


@pytest.mark.parametrize("transport", list(Transport))
def test_a_finds_all_addresses_with_ttl_0(transport: Transport) -> None:
    """A is answered with every address of the name and TTL 0; AA and RA are set."""
    answer = asked(dns.message.make_query(NAME, "A"), transport=transport)

    assert answer.rcode() == dns.rcode.NOERROR
    assert sorted(addresses_in(answer)) == ADDRESSES
    assert owners_in(answer) == {(f"{NAME}.", 0)}
    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA


def test_aaaa_finds_ipv6_addresses() -> None:
    """AAAA is answered with the addresses of that family, and with those only."""
    by = responder(["10.255.0.4", "fd00::4", "fd00::5"])

    assert sorted(addresses_in(asked(dns.message.make_query(NAME, "AAAA"), by))) == [
        "fd00::4",
        "fd00::5",
    ]
    assert addresses_in(asked(dns.message.make_query(NAME, "A"), by)) == ["10.255.0.4"]


def test_any_finds_addresses_of_both_families() -> None:
    """ANY is answered with all that there is of a name, each record by its own type."""
    both = responder(["10.255.0.4", "fd00::4"])
    many = responder([*MANY, *(f"fd00::{number:x}" for number in range(1, 301))])
    query = dns.message.make_query(NAME, "ANY")

    answer = asked(dns.message.make_query(NAME, "ANY"), both)

    found = {(dns.rdatatype.to_text(each.rdtype), each[0].to_text()) for each in answer.answer}
    assert found == {("A", "10.255.0.4"), ("AAAA", "fd00::4")}
    assert owners_in(answer) == {(f"{NAME}.", 0)}
    assert addresses_in(asked(dns.message.make_query("x.apps.internal", "ANY"), both)) == []
    assert len(addresses_in(asked(query, many, TCP))) == 600
    over_udp = many.respond(query.to_wire(), UDP)
    assert isinstance(over_udp, bytes)
    assert dns.message.from_wire(over_udp).flags & dns.flags.TC
    assert len(over_udp) <= 512


@pytest.mark.parametrize("rdtype", ["AAAA", "MX", "TXT", "SRV", "HTTPS", "SOA", "NS", "CNAME"])
def test_other_types_have_no_data(rdtype: str) -> None:
    """A type without records is NOERROR and empty: NXDOMAIN to AAAA would hide the A from musl."""
    answer = asked(dns.message.make_query(NAME, rdtype))

    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert (answer.answer, answer.authority, answer.additional) == ([], [], [])


@pytest.mark.parametrize("name", ["nobody.apps.internal", "apps.internal", "x.y.z.apps.internal"])
def test_unknown_internal_names_have_no_data_and_stay_here(name: str) -> None:
    """An unknown name in an internal domain is NOERROR and empty, and is not forwarded."""
    answer = asked(dns.message.make_query(name, "A"))

    assert answer.rcode() == dns.rcode.NOERROR
    assert (answer.answer, answer.authority) == ([], [])


def test_the_question_comes_back_as_it_was_asked() -> None:
    """Any letter case is found, and the answer has exactly that of the question."""
    query = dns.message.make_query("aPp-B.ApPs.InTeRnAl", "A")
    answer = responder().respond(query.to_wire(), UDP)

    assert isinstance(answer, bytes)
    assert answer[12:].startswith(query.to_wire()[12:])
    message = dns.message.from_wire(answer)
    assert owners_in(message) == {("aPp-B.ApPs.InTeRnAl.", 0)}
    assert sorted(addresses_in(message)) == ADDRESSES


def test_the_order_is_drawn_anew_for_each_answer() -> None:
    """Every order of three addresses occurs, each about as often as the others."""
    by = responder()
    query = dns.message.make_query(NAME, "A")
    orders = Counter(tuple(addresses_in(asked(query, by))) for _ in range(600))

    assert len(orders) == 6
    assert min(orders.values()) > 60


@pytest.mark.parametrize("name", ["example.com", "apps.internal.example.com", "internal", "."])
@pytest.mark.parametrize("edns", [-1, 0, 1])
def test_other_names_are_forwarded(name: str, edns: int) -> None:
    """A name outside the internal domains is somebody else's to answer, whatever else is asked."""
    query = dns.message.make_query(name, "MX", use_edns=edns).to_wire()
    forward = responder().respond(query, UDP)

    assert isinstance(forward, Forward)
    assert query[12:].startswith(forward.question)
    assert len(forward.question) == len(dns.message.make_query(name, "MX").to_wire()) - 12


def test_flags_of_the_query_are_echoed() -> None:
    """RD and CD come back as they were; AD and Z, which claim something, do not."""
    query = dns.message.make_query(NAME, "A")
    query.flags = dns.flags.Flag(dns.flags.CD | dns.flags.AD | 0x0040)

    answer = asked(query)

    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.CD


def test_edns_is_answered_by_edns() -> None:
    """An OPT record is answered by one with our size and the DO bit that was asked, no options."""
    option = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")
    query = dns.message.make_query(NAME, "A", use_edns=0, want_dnssec=True, options=[option])
    answer = asked(query)

    assert (answer.edns, answer.payload) == (0, 1232)
    assert answer.ednsflags & dns.flags.DO
    assert answer.options == ()
    assert sorted(addresses_in(answer)) == ADDRESSES


def test_no_edns_is_answered_by_no_edns() -> None:
    """A client that does not speak EDNS is not spoken to in it (RFC 6891, section 7)."""
    assert asked(dns.message.make_query(NAME, "A", use_edns=False)).edns == -1


def test_a_newer_edns_is_refused() -> None:
    """A version of EDNS above 0 is answered with BADVERS, version 0 and no records."""
    query = dns.message.make_query(NAME, "A", use_edns=1)
    answer = asked(query)

    assert answer.rcode() == dns.rcode.BADVERS
    assert answer.edns == 0
    assert not answer.answer
    assert answer.question == query.question


@pytest.mark.parametrize(
    ("payload", "most"), [(None, 512), (0, 512), (600, 600), (1232, 1232), (65535, 1232)]
)
def test_what_does_not_fit_into_a_datagram_is_truncated(payload: int | None, most: int) -> None:
    """Over UDP an answer is filled up to 512 octets, or what EDNS says up to 1232, and has TC."""
    query = dns.message.make_query(
        NAME, "A", use_edns=-1 if payload is None else 0, payload=payload
    )
    answer = responder(MANY).respond(query.to_wire(), UDP)

    assert isinstance(answer, bytes)
    message = dns.message.from_wire(answer)
    assert message.flags & dns.flags.TC
    assert most - 16 < len(answer) <= most
    assert len(set(addresses_in(message))) == len(addresses_in(message)) > 0
    assert message.edns == query.edns


def test_truncation_leaves_out_other_addresses_each_time() -> None:
    """Which addresses fit is drawn too, so that none is left out for ever."""
    by = responder(MANY)
    query = dns.message.make_query(NAME, "A")
    seen = {address for _ in range(200) for address in addresses_in(asked(query, by))}

    assert seen == set(MANY)


def test_over_tcp_everything_fits() -> None:
    """Over TCP the whole answer is given, whatever size EDNS names for UDP."""
    query = dns.message.make_query(NAME, "A", use_edns=0, payload=512)
    answer = asked(query, responder(MANY), TCP)

    assert not answer.flags & dns.flags.TC
    assert sorted(addresses_in(answer)) == sorted(MANY)


def test_what_does_not_fit_into_a_tcp_message_is_truncated() -> None:
    """A message over TCP cannot be longer than 65535 octets: 4093 addresses of a short name."""
    by = responder([f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1, 5001)])
    answer = by.respond(dns.message.make_query(NAME, "A").to_wire(), TCP)

    assert isinstance(answer, bytes)
    assert 65535 - 16 < len(answer) <= 65535
    assert dns.message.from_wire(answer).flags & dns.flags.TC


def test_what_just_fits_is_not_truncated() -> None:
    """29 addresses make 501 octets for this name, and 30 would be 517: the limit is exact."""
    fitting = responder(MANY[:29])
    too_many = responder(MANY[:30])
    query = dns.message.make_query(NAME, "A")

    assert not asked(query, fitting).flags & dns.flags.TC
    assert len(addresses_in(asked(query, fitting))) == 29
    assert asked(query, too_many).flags & dns.flags.TC


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_only_queries_are_implemented(opcode: int) -> None:
    """An opcode other than QUERY is NOTIMP, whatever the rest means, and has the ID and opcode."""
    wire = b"\x12\x34" + bytes([opcode << 3 | 1, 0]) + b"\0\1\0\0\0\0\0\0" + b"rubbish"
    answer = responder().respond(wire, UDP)

    assert isinstance(answer, bytes)
    assert answer[:4] == b"\x12\x34" + bytes([0x80 | opcode << 3 | 1, 0x80 | dns.rcode.NOTIMP])
    assert answer[4:] == bytes(8)


def test_a_dynamic_update_is_not_implemented() -> None:
    """A real UPDATE of an internal name is refused as not implemented."""
    update = dns.update.UpdateMessage("apps.internal")
    update.add("app-b", 0, "A", "10.0.0.1")
    answer = responder().respond(update.to_wire(), TCP)

    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize("count", [0, 2, 65535])
def test_there_is_exactly_one_question(count: int) -> None:
    """No question, or more than one, is FORMERR (RFC 9619)."""
    wire = bytearray(dns.message.make_query(NAME, "A").to_wire())
    wire[4:6] = count.to_bytes(2)
    answer = responder().respond(bytes(wire), UDP)

    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.FORMERR
    assert len(answer) == 12


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"\x05app-b",
        b"\x05app-b\x04apps\x08internal\0\0\1",
        b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        b"\xc0\x0c\0\1\0\1",
        b"\xc0\x00\0\1\0\1",
        b"\x05app-b\xc0\x04\0\1\0\1",
        (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
    ],
    ids=["none", "cut", "no class", "long label", "loop", "header", "partly header", "long name"],
)
def test_a_malformed_question_is_a_format_error(question: bytes) -> None:
    """A question that cannot be read, or points to anything, is FORMERR with a bare header."""
    wire = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + question
    answer = responder().respond(wire, UDP)

    assert answer == b"\x12\x34\x81\x81" + bytes(8)


@pytest.mark.parametrize(
    "rest",
    [
        b"\0\0\x29\x04\xd0\0\0\0\0\0\x05ab",
        b"\0\0\x29",
        b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0",
    ],
    ids=["data cut", "record cut", "OPT with a name"],
)
def test_malformed_records_are_a_format_error(rest: bytes) -> None:
    """An internal query whose additional record is malformed is FORMERR."""
    wire = bytearray(dns.message.make_query(NAME, "A").to_wire() + rest)
    wire[10:12] = b"\0\1"
    answer = responder().respond(bytes(wire), UDP)

    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("rdclass", ["CH", "HS", "NONE", "ANY"])
@pytest.mark.parametrize("name", [NAME, "version.bind"])
def test_only_the_internet_class_is_served(rdclass: str, name: str) -> None:
    """Another class, CHAOS too, is REFUSED, for internal and other names alike."""
    query = dns.message.make_query(name, "TXT", rdclass, use_edns=0)
    answer = asked(query)

    assert answer.rcode() == dns.rcode.REFUSED
    assert answer.question == query.question
    assert answer.edns == 0


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("name", ["apps.internal", "example.com"])
def test_zones_are_not_transferred(name: str, rdtype: str) -> None:
    """A transfer, which takes many messages, is REFUSED for internal and other zones."""
    query = dns.message.make_query(name, rdtype)

    assert asked(query, transport=TCP).rcode() == dns.rcode.REFUSED


def test_a_refusal_of_a_malformed_query_is_a_format_error() -> None:
    """A query of another class that is also malformed is FORMERR."""
    wire = dns.message.make_query(NAME, "TXT", "CH").to_wire()
    answer = responder().respond(wire[:11] + b"\1" + wire[12:] + b"\0\0\x29", UDP)

    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.FORMERR


def test_a_signature_is_not_looked_at() -> None:
    """A signed query is answered like any other: no key is known here."""
    query = dns.message.make_query(NAME, "A")
    query.use_tsig(dns.tsig.Key("key.", b"0123456789abcdef"))

    answer = responder().respond(query.to_wire(), UDP)

    assert isinstance(answer, bytes)
    assert sorted(addresses_in(dns.message.from_wire(answer))) == ADDRESSES


@pytest.mark.parametrize("length", range(12))
def test_less_than_a_header_has_no_answer(length: int) -> None:
    """What has no whole header cannot be answered and is dropped."""
    assert responder().respond(dns.message.make_query(NAME, "A").to_wire()[:length], UDP) is None


def test_an_answer_has_no_answer() -> None:
    """A message with QR set is dropped, so that two servers cannot answer each other for ever."""
    query = dns.message.make_query(NAME, "A")
    answer = responder().respond(query.to_wire(), UDP)

    assert isinstance(answer, bytes)
    assert responder().respond(answer, UDP) is None


@pytest.mark.parametrize("name", [NAME, "example.com"])
@pytest.mark.parametrize("edns", [-1, 0])
def test_without_a_table_every_query_is_told_to_come_again(name: str, edns: int) -> None:
    """Before the first table no name is known to be external: SERVFAIL, and a reason with EDNS."""
    query = dns.message.make_query(name, "A", use_edns=edns)
    answer = asked(query, Server(None))

    assert answer.rcode() == dns.rcode.SERVFAIL
    assert [option.to_text() for option in answer.options] == (
        ["EDE 14 (Not Ready): the control plane has not sent the name table yet"]
        if edns == 0
        else []
    )


def test_a_failed_forward_is_told_why() -> None:
    """A query that nobody answered gets SERVFAIL with its own ID and question, and a reason."""
    query = dns.message.make_query("Example.com", "MX", use_edns=0)
    answer = dns.message.from_wire(failure(query.to_wire()))

    assert (answer.id, answer.rcode()) == (query.id, dns.rcode.SERVFAIL)
    assert answer.question[0].to_text() == "Example.com. IN MX"
    assert [option.to_text() for option in answer.options] == [
        "EDE 23 (Network Error): no upstream resolver answered"
    ]


def test_large_queries_are_answered_and_not_remembered() -> None:
    """Each may have 64 KiB, and nobody asks the same one again and again."""
    padding = dns.edns.GenericOption(dns.edns.OptionType.make(65001), bytes(60_000))
    wires = [
        dns.message.make_query(f"{number}.{NAME}", "A", options=[padding]).to_wire(max_size=65535)
        for number in range(100)
    ]
    server = responder()
    server.respond(wires[0], TCP)
    tracemalloc.start()
    try:
        answers = [server.respond(wire, TCP) for wire in wires]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert all(isinstance(each, bytes) for each in answers)
    assert taken < 1_000_000


def test_a_remembered_answer_has_the_new_id() -> None:
    """The same question with another ID is answered from memory, with that ID."""
    by = responder()
    for number in (1, 2, 65535):
        answer = asked(dns.message.make_query(NAME, "A", id=number), by)

        assert answer.id == number
        assert sorted(addresses_in(answer)) == ADDRESSES


def test_a_new_table_counts_at_once() -> None:
    """What is remembered of a query is nothing of what the table said."""
    by = responder()
    query = dns.message.make_query(NAME, "A")
    assert addresses_in(asked(query, by))

    by.table = table_of({})
    assert not addresses_in(asked(query, by))

    by.table = table_of({}, ["other.internal"])
    assert isinstance(by.respond(query.to_wire(), UDP), Forward)

    by.table = None
    assert asked(query, by).rcode() == dns.rcode.SERVFAIL
