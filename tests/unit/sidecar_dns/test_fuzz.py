"""Whatever bytes come, nothing is raised, and what goes out is a valid message."""

from __future__ import annotations

from random import Random

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.update
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.sidecar.dns.answer import Forward, Responder, Transport, failure
from control_plane.sidecar.dns.message import is_answer
from control_plane.sidecar.dns.table import NameTable
from tests.fuzz.budget import PARSER
from tests.unit.sidecar_dns.tables import table_of

NAMES = ["app-b.apps.internal", "0.app-b.apps.internal", "six.apps.internal", "none.apps.internal"]
TABLE = table_of(
    {
        NAMES[0]: [f"10.255.0.{number}" for number in range(1, 101)],
        NAMES[1]: ["10.255.0.1"],
        NAMES[2]: ["fd00::1", "10.255.0.1"],
        NAMES[3]: [],
    }
)

transports = st.sampled_from(Transport)
tables = st.sampled_from([TABLE, None])


@st.composite
def letter_cases(draw: st.DrawFn, name: str) -> str:
    """Draw a name in any mixture of capital and small letters."""
    return "".join(draw(st.sampled_from([letter.upper(), letter])) for letter in name)


names = st.sampled_from([*NAMES, "nobody.apps.internal", "apps.internal", "example.com", "."])
queries = st.builds(
    lambda name, rdtype, rdclass, edns, payload, flags: dns.message.make_query(
        name, rdtype, rdclass, use_edns=edns, payload=payload, flags=flags
    ),
    names.flatmap(letter_cases),
    st.sampled_from(["A", "AAAA", "MX", "ANY", "AXFR", "TYPE65280"]),
    st.sampled_from(["IN", "IN", "IN", "CH", "ANY"]),
    st.sampled_from([-1, 0, 0, 1]),
    st.integers(0, 65535),
    st.sampled_from([0, dns.flags.RD, dns.flags.RD | dns.flags.CD, dns.flags.AD]),
).map(lambda query: query.to_wire())


def others() -> list[bytes]:
    """Return messages that are no queries: an update and a notification."""
    update = dns.update.UpdateMessage("apps.internal")
    update.add("app-b", 0, "A", "10.255.0.4")
    update.delete("app-c")
    notification = dns.message.make_query("apps.internal", "SOA")
    notification.set_opcode(dns.opcode.NOTIFY)
    return [update.to_wire(), notification.to_wire()]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a real message in which some octets were replaced, removed or added."""
    wire = bytearray(draw(queries | st.sampled_from(others())))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(wire)))
        wire[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(wire)


def check(wire: bytes, transport: Transport, table: NameTable | None) -> None:
    """Require of an answer what holds for all of them."""
    answer = Responder(Random(1)).respond(wire, transport, table)
    if answer is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    if isinstance(answer, Forward):
        assert table is not None
        assert wire[12:].startswith(answer.question)
        answer = failure(wire)
    message = dns.message.from_wire(answer)
    assert message.flags & dns.flags.QR
    assert message.opcode() == wire[2] >> 3 & 0xF
    assert answer[:2] == wire[:2]
    assert transport is Transport.TCP or len(answer) <= 1232
    for question in message.question:
        name = question.name.to_wire()
        assert name is not None
        assert wire.startswith(name, 12)
    for rrset in message.answer:
        assert message.rcode() == dns.rcode.NOERROR
        (asked,) = message.question
        types = {dns.rdatatype.A, dns.rdatatype.AAAA}
        assert rrset.name == asked.name
        assert rrset.rdtype in (types if asked.rdtype == dns.rdatatype.ANY else {asked.rdtype})


@PARSER
@given(st.binary(max_size=600), transports, tables)
@example(b"", Transport.UDP, None)
@example(bytes(12), Transport.TCP, TABLE)
def test_any_bytes(wire: bytes, transport: Transport, table: NameTable | None) -> None:
    """Arbitrary bytes have a valid answer or none."""
    check(wire, transport, table)


@PARSER
@given(mutated(), transports, tables)
def test_mutated_queries(wire: bytes, transport: Transport, table: NameTable | None) -> None:
    """A real message that was damaged on the way has a valid answer or none."""
    check(wire, transport, table)


@PARSER
@given(queries, transports, tables)
def test_real_queries(wire: bytes, transport: Transport, table: NameTable | None) -> None:
    """A real query has a valid answer or is forwarded, and never goes unanswered."""
    assert Responder(Random(1)).respond(wire, transport, table) is not None
    check(wire, transport, table)


@PARSER
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_from_upstream(wire: bytes, query: bytes) -> None:
    """Whether something answers a query can be told of any bytes."""
    assert is_answer(wire, query, query[12:]) in {True, False}
