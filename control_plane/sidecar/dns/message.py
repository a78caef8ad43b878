"""DNS messages as bytes: what a query asks, and answers that carry no records.

The rule of this module: messages are parsed only here, and except for answers from the table they
are built only here. This is done with dnspython, and no bytes make it raise.
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from control_plane.sidecar.dns.table import Labels

HEADER_OCTETS = 12
"""RFC 1035, section 4.1.1."""

MAX_MESSAGE_OCTETS = 65535
"""The most that the length prefix of a message over TCP can express (RFC 1035, section 4.2.2)."""

MAX_UDP_OCTETS = 1232
"""The largest message that we accept and send over UDP, as EDNS tells clients: below the fragment
size of every network (RFC 9715, section 3.1; DNS Flag Day 2020)."""

_MIN_UDP_OCTETS = 512
"""What every client accepts that does not say otherwise (RFC 1035, section 2.3.4)."""

_TYPE_AND_CLASS_OCTETS = 4

_WITHOUT_QUESTION = frozenset(
    {dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED}
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks.

    Attributes:
        wire: the question section as it stands in the query, with its letter case.
        name: the name in lower case.
    """

    wire: bytes
    name: Labels
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass


@dataclass(frozen=True, slots=True)
class Skeleton:
    """An answer that lacks its records.

    Attributes:
        message: header, question and, for a client that speaks EDNS, the OPT record.
        udp_octets: the largest answer that the client accepts over UDP.
    """

    message: dns.message.Message
    udp_octets: int


def flags_of(wire: bytes) -> int:
    """Return the second word of the header: QR, opcode, the flags and the response code."""
    return int.from_bytes(wire[2:4])


def is_query(wire: bytes) -> bool:
    """Tell whether a message can be answered: it has a whole header and is not itself an answer."""
    return len(wire) >= HEADER_OCTETS and not flags_of(wire) & dns.flags.QR


def opcode_of(wire: bytes) -> dns.opcode.Opcode:
    """Return the opcode of a message: what kind of query it is."""
    return dns.opcode.from_flags(flags_of(wire))


def read_question(wire: bytes) -> Question | None:
    """Return the question of a query; None if there is not exactly one, or it is malformed.

    "A DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly formatted
    message" (RFC 9619, section 4), and one without a question asks for a DNS cookie, which is not
    served.
    """
    if int.from_bytes(wire[4:6]) != 1:
        return None
    try:
        (asked,) = dns.message.from_wire(wire, question_only=True).question
    except dns.exception.DNSException:
        return None
    name = b"".join(bytes([len(label)]) + label for label in asked.name.labels)
    end = HEADER_OCTETS + len(name) + _TYPE_AND_CLASS_OCTETS
    # The first name of a message has nothing to point to, so it cannot be compressed.
    if not wire.startswith(name, HEADER_OCTETS):
        return None
    labels = tuple(label.lower() for label in asked.name.labels[:-1])
    return Question(wire[HEADER_OCTETS:end], labels, asked.rdtype, asked.rdclass)


def skeleton_of(wire: bytes) -> Skeleton | None:
    """Return the answer to a query without its records; None if the query is malformed.

    "If an OPT record is present in a received request, compliant responders MUST include an OPT
    record in their respective responses" (RFC 6891, section 6.1.1), whatever they say.

    "The question section is copied from the query", and with it the letter case, by which stub
    resolvers recognise forged answers. CD is copied (RFC 4035, section 3.2.2) and so is DO (RFC
    3225, section 3). A signature is ignored.
    """
    try:
        query = dns.message.from_wire(wire, keyring=False, ignore_trailing=True)
    except dns.exception.DNSException:
        return None
    response = dns.message.make_response(query, recursion_available=True, pad=0)
    response.flags |= query.flags & dns.flags.CD
    if query.edns < 0:
        return Skeleton(response, _MIN_UDP_OCTETS)
    response.use_edns(0, query.ednsflags & dns.flags.DO, MAX_UDP_OCTETS)
    if query.edns > 0:
        # "If a responder does not implement the VERSION level of the request, then it MUST respond
        # with RCODE=BADVERS" (RFC 6891, section 6.1.3).
        response.set_rcode(dns.rcode.BADVERS)
    return Skeleton(response, min(max(query.payload, _MIN_UDP_OCTETS), MAX_UDP_OCTETS))


def refusal(wire: bytes, rcode: dns.rcode.Rcode, reason: dns.edns.EDEOption | None = None) -> bytes:
    """Return an answer that has no records and says why.

    Args:
        wire: the query.
        rcode: the code for programs; a malformed query gets FORMERR instead.
        reason: the sentence for people, in answers to clients that speak EDNS (RFC 8914).
    """
    skeleton = skeleton_of(wire)
    if skeleton is None:
        return _header_only(wire, dns.rcode.FORMERR)
    response = skeleton.message
    if response.edns >= 0 and reason is not None:
        response.use_edns(0, response.ednsflags, MAX_UDP_OCTETS, options=[reason])
    response.set_rcode(rcode)
    return response.to_wire(max_size=MAX_MESSAGE_OCTETS)


def refusal_without_question(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """Return an answer to a query whose question cannot be read, or has another meaning."""
    skeleton = skeleton_of(wire)
    if skeleton is None:
        return _header_only(wire, rcode)
    response = skeleton.message
    response.question = []
    response.set_rcode(rcode)
    return response.to_wire(max_size=MAX_MESSAGE_OCTETS)


def _header_only(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    response = dns.message.Message(int.from_bytes(wire[:2]))
    response.flags = dns.flags.QR | dns.flags.RA | (flags_of(wire) & dns.flags.RD)
    response.set_opcode(opcode_of(wire))
    response.set_rcode(rcode)
    return response.to_wire()


def framed(wire: bytes) -> bytes:
    """Return a message as it is sent over TCP, after its length (RFC 1035, section 4.2.2)."""
    return len(wire).to_bytes(2) + wire


def rcode_of(answer: bytes) -> int:
    """Return the response code in an answer's header, without the bits that EDNS adds."""
    return flags_of(answer) & 0xF


def is_answer(wire: bytes, query: bytes, question: bytes) -> bool:
    """Tell whether a message answers a query, by its ID, its opcode and its question.

    A server may omit the question from an answer that only reports an error.
    """
    if len(wire) < HEADER_OCTETS or is_query(wire) or wire[:2] != query[:2]:
        return False
    if opcode_of(wire) != opcode_of(query):
        return False
    count = int.from_bytes(wire[4:6])
    if count == 0:
        return rcode_of(wire) in _WITHOUT_QUESTION
    asked = wire[HEADER_OCTETS : HEADER_OCTETS + len(question)]
    name, rest = question[:-_TYPE_AND_CLASS_OCTETS], question[-_TYPE_AND_CLASS_OCTETS:]
    same_name = asked[: len(name)].lower() == name.lower()
    return count == 1 and same_name and asked[len(name) :] == rest
