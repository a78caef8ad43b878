"""Which messages answer a query that was sent upstream."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from control_plane.sidecar.dns.message import framed, is_answer, rcode_of, read_question, refusal

QUERY = dns.message.make_query("Example.com", "A", id=0x1234)
WIRE = QUERY.to_wire()
QUESTION = WIRE[12:]


def answer(name: str = "Example.com", rdtype: str = "A", rdclass: str = "IN") -> bytes:
    """Return an answer that repeats this question."""
    query = dns.message.make_query(name, rdtype, rdclass, id=0x1234)
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def without_question(rcode: int) -> bytes:
    """Return an answer that is a header only."""
    return WIRE[:2] + b"\x81" + bytes([0x80 | rcode]) + bytes(8)


@pytest.mark.parametrize("name", ["Example.com", "example.com", "EXAMPLE.COM"])
def test_the_answer_to_a_query_is_taken(name: str) -> None:
    """ID and question are those that were sent; some servers change the letter case."""
    assert is_answer(answer(name), WIRE, QUESTION)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        answer()[:11],
        WIRE,
        b"\x43\x21" + answer()[2:],
        answer("example.net"),
        answer("www.Example.com"),
        answer(rdtype="AAAA"),
        answer(rdclass="CH"),
        answer()[:2] + bytes([answer()[2] | dns.opcode.NOTIFY << 3]) + answer()[3:],
        answer()[:4] + b"\0\2" + answer()[6:],
        answer()[: 12 + len(QUESTION) - 1],
        without_question(dns.rcode.NOERROR),
        without_question(dns.rcode.NXDOMAIN),
    ],
    ids=[
        "nothing",
        "less than a header",
        "the query",
        "ID",
        "name",
        "longer name",
        "type",
        "class",
        "opcode",
        "two questions",
        "cut question",
        "no question",
        "no question, no name",
    ],
)
def test_anything_else_is_not(other: bytes) -> None:
    """What differs in ID, opcode or question was sent by somebody who guesses (RFC 5452)."""
    assert not is_answer(other, WIRE, QUESTION)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_a_refusal_may_lack_the_question(rcode: int) -> None:
    """FORMERR, SERVFAIL, NOTIMP and REFUSED may come as a header only."""
    assert is_answer(without_question(rcode), WIRE, QUESTION)


def test_the_response_code_is_read_from_the_header() -> None:
    """rcode_of needs no question."""
    assert rcode_of(answer()) == dns.rcode.NXDOMAIN


def test_a_type_that_looks_like_a_letter_is_compared_as_a_number() -> None:
    """Type 65 is not type 97, although one is the capital letter of the other."""
    asked = dns.message.make_query("example.com", "TYPE65", id=0x1234).to_wire()

    assert not is_answer(answer("example.com", "TYPE97"), asked, asked[12:])


def test_a_message_over_tcp_has_its_length_in_front() -> None:
    """Two octets, the more significant one first (RFC 1035, section 4.2.2)."""
    assert framed(bytes(258)) == b"\1\2" + bytes(258)


def test_a_question_is_read_in_lower_case_and_kept_as_it_was() -> None:
    """Names are looked up in lower case; the question section is kept octet by octet."""
    question = read_question(WIRE)

    assert question is not None
    assert question.name == (b"example", b"com")
    assert question.wire == QUESTION


def test_a_refusal_without_edns_has_no_reason() -> None:
    """A client that does not speak EDNS gets the response code only."""
    message = dns.message.from_wire(refusal(WIRE, dns.rcode.REFUSED))

    assert message.rcode() == dns.rcode.REFUSED
    assert message.edns == -1
    assert not message.flags & dns.flags.AA
