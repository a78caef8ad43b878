"""What is answered to a DNS message: bytes in, bytes out.

The rules of this module:

- Every query has an answer, even a malformed one, as long as its header can be read. What is no
  query has none, so that two servers never answer each other in a circle.
- A name in the internal domains is answered here and never leaves; any other is for the upstream
  resolvers, and not looked at any further.
- An answer is authoritative, has TTL 0, and none has an SOA: "negative responses without SOA
  records SHOULD NOT be cached" (RFC 2308, section 5).

Applications ask the same question over and over, so what was worked out for a message is remembered
by its bytes behind the ID; only the order of the addresses is drawn for each answer.
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
    Skeleton,
    is_query,
    opcode_of,
    read_question,
    refusal,
    refusal_without_question,
    skeleton_of,
)
from control_plane.sidecar.dns.table import NameTable

_REMEMBERED = 1024
"""Messages for which the answer is kept ready, of about a kilobyte each."""

_RECORD = struct.Struct("!HHHIH")
"""A resource record up to its data (RFC 1035, section 4.1.3)."""

_NAME_ASKED = 0xC000 | HEADER_OCTETS
"""The owner of each record: a pointer to the question (RFC 1035, section 4.1.4)."""

_TTL = 0

_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})


class Transport(Enum):
    """How a message came."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Forward:
    """The name is not ours: an upstream resolver has to be asked.

    Attributes:
        question: the question section as it stands in the query.
    """

    question: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer without its ID.

    Attributes:
        start: what stands before the records: flags, counts and the question.
        records: those that there are.
        fitting: how many of them are in one answer.
        end: what stands behind them: the OPT record.
    """

    start: bytes
    records: tuple[bytes, ...] = ()
    fitting: int = 0
    end: bytes = b""

    def drawn(self, random: Random) -> bytes:
        """Return it with its records in random order."""
        if not self.records:
            return self.start
        return b"".join((self.start, *random.sample(self.records, self.fitting), self.end))


class Responder:
    """Answers by one table."""

    __slots__ = ("_plan", "_random", "table")

    def __init__(self, table: NameTable | None, random: Random) -> None:
        """Answer by a table.

        Args:
            table: the names; None if none is known yet, so that no name can be told internal.
            random: draws the order of addresses.
        """
        self.table = table
        self._random = random
        self._plan: Callable[[bytes, Transport], _Answer | Forward] = lru_cache(_REMEMBERED)(
            self._work_out
        )

    def respond(self, wire: bytes, transport: Transport) -> bytes | Forward | None:
        """Return the answer to a message, or whose it is; None if it must not have any."""
        if not is_query(wire):
            return None
        plan = self._plan(wire[2:], transport)
        return wire[:2] + plan.drawn(self._random) if isinstance(plan, _Answer) else plan

    def _work_out(self, rest: bytes, transport: Transport) -> _Answer | Forward:
        wire = b"\0\0" + rest
        if opcode_of(wire) is not dns.opcode.QUERY:
            return _Answer(refusal_without_question(wire, dns.rcode.NOTIMP)[2:])
        question = read_question(wire)
        if question is None:
            return _Answer(refusal_without_question(wire, dns.rcode.FORMERR)[2:])
        if question.rdclass != dns.rdataclass.IN or question.rdtype in _TRANSFERS:
            return _Answer(refusal(wire, dns.rcode.REFUSED)[2:])
        if self.table is None:
            return _Answer(refusal(wire, dns.rcode.SERVFAIL, _no_table())[2:])
        if not self.table.is_internal(question.name):
            return Forward(question.wire)
        skeleton = skeleton_of(wire)
        if skeleton is None:
            return _Answer(refusal(wire, dns.rcode.FORMERR)[2:])
        found = self.table.lookup(question.name, question.rdtype)
        return _answer(skeleton, question, found, transport)


def failure(wire: bytes) -> bytes:
    """Return the answer to a query that no upstream resolver answered."""
    reason = dns.edns.EDEOption(dns.edns.EDECode.NETWORK_ERROR, "no upstream resolver answered")
    return refusal(wire, dns.rcode.SERVFAIL, reason)


def _no_table() -> dns.edns.EDEOption:
    text = "the control plane has not sent the name table yet"
    return dns.edns.EDEOption(dns.edns.EDECode.NOT_READY, text)


def _answer(
    skeleton: Skeleton, question: Question, addresses: tuple[bytes, ...], transport: Transport
) -> _Answer:
    """Put addresses into an answer, as many as the client can take."""
    message = skeleton.message
    if message.rcode() != dns.rcode.NOERROR:
        return _Answer(message.to_wire(max_size=MAX_MESSAGE_OCTETS)[2:])
    message.flags |= dns.flags.AA
    whole = message.to_wire(max_size=MAX_MESSAGE_OCTETS)
    records = tuple(
        _RECORD.pack(_NAME_ASKED, question.rdtype, question.rdclass, _TTL, len(each)) + each
        for each in addresses
    )
    if not records:
        return _Answer(whole[2:])
    most = MAX_MESSAGE_OCTETS if transport is Transport.TCP else skeleton.udp_octets
    fitting = min(len(records), (most - len(whole)) // len(records[0]))
    if fitting < len(records):
        message.flags |= dns.flags.TC
    end = HEADER_OCTETS + len(question.wire)
    header = bytearray(message.to_wire(max_size=MAX_MESSAGE_OCTETS)[:HEADER_OCTETS])
    header[6:8] = fitting.to_bytes(2)  # ANCOUNT
    return _Answer(bytes(header[2:]) + question.wire, records, fitting, whole[end:])
