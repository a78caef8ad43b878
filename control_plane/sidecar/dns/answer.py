"""The answer to a DNS message: bytes in, bytes out.

The rules of this module:

- Every query gets an answer, even a malformed one, as long as its header can be read. A message
  that is not a query gets none, so that two servers never answer each other in a loop.
- A query for a name in the internal domains is answered here and never leaves. A query for any
  other name is for the upstream resolvers, and is not examined any further.
- An answer is authoritative, has TTL 0, and never has an SOA: "negative responses without SOA
  records SHOULD NOT be cached" (RFC 2308, section 5).

Applications ask the same questions over and over. So what follows from the bytes of a query alone
is cached by these bytes, unless the query is longer than a question needs. The addresses are looked
up in the table each time, so a new table invalidates nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from random import Random

import dns.edns
import dns.flags
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from control_plane.sidecar.dns.message import (
    HEADER_OCTETS,
    MAX_MESSAGE_OCTETS,
    Question,
    is_query,
    opcode_of,
    read_question,
    refusal,
    refusal_without_question,
    skeleton_of,
)
from control_plane.sidecar.dns.table import NameTable

_REMEMBERED = 1024
"""Number of cached queries, of about a kilobyte each."""

_LARGEST_REMEMBERED = 512
"""Octets of the largest query that is cached: a name, a type and some options (RFC 1035, section
2.3.4). A client that sends larger queries does not repeat them, and would fill the memory."""

_HEADER = struct.Struct("!HHHHH")
"""The header without the ID (RFC 1035, section 4.1.1)."""

_RECORD = struct.Struct("!HHHIH")
"""A resource record up to its data (RFC 1035, section 4.1.3)."""

_NAME_ASKED = 0xC000 | HEADER_OCTETS
"""The owner of each record: a pointer to the question (RFC 1035, section 4.1.4)."""

_TTL = 0

_BEFORE_ADDRESS = {
    size: _RECORD.pack(_NAME_ASKED, rdtype, dns.rdataclass.IN, _TTL, size)
    for rdtype, size in ((dns.rdatatype.A, 4), (dns.rdatatype.AAAA, 16))
}
"""A record up to its address, by the size of the address."""

_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})


class Transport(Enum):
    """How a message arrived."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Forward:
    """The name is external: an upstream resolver has to be asked.

    Attributes:
        question: the question section as it stands in the query.
    """

    question: bytes


@dataclass(frozen=True, slots=True)
class _Form:
    """The answer to a query, into which the addresses are yet to be filled.

    Attributes:
        flags: the second word of the header.
        opt: the OPT record, for a client that speaks EDNS.
        most: the largest answer that the client accepts, in octets.
    """

    question: Question
    flags: int
    opt: bytes
    most: int

    def filled(self, addresses: tuple[bytes, ...], random: Random) -> bytes:
        """Return the answer without its ID: as many addresses as fit, in random order."""
        flags, fitting, records = self.flags, 0, b""
        if addresses:
            largest = _RECORD.size + max(map(len, addresses))
            room = self.most - HEADER_OCTETS - len(self.question.wire) - len(self.opt)
            fitting = min(len(addresses), room // largest)
            if fitting < len(addresses):
                flags |= dns.flags.TC
            drawn = random.sample(addresses, fitting)
            records = b"".join(_BEFORE_ADDRESS[len(each)] + each for each in drawn)
        header = _HEADER.pack(flags, 1, fitting, 0, 1 if self.opt else 0)
        return b"".join((header, self.question.wire, records, self.opt))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query whose answer depends on the table.

    Attributes:
        form: the answer if the name is internal; or a refusal, without its ID.
    """

    question: Question
    form: _Form | bytes


class Responder:
    """Answers queries, and caches what follows from their bytes alone."""

    __slots__ = ("_random", "_remembered")

    def __init__(self, random: Random) -> None:
        """Take the source of randomness for the order of addresses."""
        self._random = random
        self._remembered: Callable[[bytes, Transport], _Asked | bytes]
        self._remembered = lru_cache(_REMEMBERED)(_read)

    def respond(
        self, wire: bytes, transport: Transport, table: NameTable | None
    ) -> bytes | Forward | None:
        """Return the answer to a message, or a ``Forward``; None if the message must get no answer.

        Args:
            wire: the message.
            transport: how it arrived.
            table: the names; None if there is no table yet, so that no name is known to be
                internal.
        """
        if not is_query(wire):
            return None
        read = self._remembered if len(wire) <= _LARGEST_REMEMBERED else _read
        query = read(wire[2:], transport)
        if isinstance(query, bytes):
            return wire[:2] + query
        if table is None:
            return refusal(wire, dns.rcode.SERVFAIL, _no_table())
        question = query.question
        if not table.is_internal(question.name):
            return Forward(question.wire)
        if isinstance(query.form, bytes):
            return wire[:2] + query.form
        addresses = table.lookup(question.name, question.rdtype)
        return wire[:2] + query.form.filled(addresses, self._random)


def failure(wire: bytes) -> bytes:
    """Return the answer to a query that no upstream resolver answered."""
    reason = dns.edns.EDEOption(dns.edns.EDECode.NETWORK_ERROR, "no upstream resolver answered")
    return refusal(wire, dns.rcode.SERVFAIL, reason)


def _no_table() -> dns.edns.EDEOption:
    text = "the control plane has not sent the name table yet"
    return dns.edns.EDEOption(dns.edns.EDECode.NOT_READY, text)


def _read(rest: bytes, transport: Transport) -> _Asked | bytes:
    """Return what a query asks, or the refusal of it, both without the ID."""
    wire = b"\0\0" + rest
    if opcode_of(wire) is not dns.opcode.QUERY:
        return refusal_without_question(wire, dns.rcode.NOTIMP)[2:]
    question = read_question(wire)
    if question is None:
        return refusal_without_question(wire, dns.rcode.FORMERR)[2:]
    if question.rdclass != dns.rdataclass.IN or question.rdtype in _TRANSFERS:
        return refusal(wire, dns.rcode.REFUSED)[2:]
    return _Asked(question, _form(wire, question, transport))


def _form(wire: bytes, question: Question, transport: Transport) -> _Form | bytes:
    skeleton = skeleton_of(wire)
    if skeleton is None:
        return refusal(wire, dns.rcode.FORMERR)[2:]
    message = skeleton.message
    whole = message.to_wire(max_size=MAX_MESSAGE_OCTETS)
    if message.rcode() != dns.rcode.NOERROR:
        return whole[2:]
    most = MAX_MESSAGE_OCTETS if transport is Transport.TCP else skeleton.udp_octets
    opt = whole[HEADER_OCTETS + len(question.wire) :]
    return _Form(question, int(message.flags | dns.flags.AA), opt, most)
