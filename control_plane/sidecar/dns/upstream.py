"""Asking upstream resolvers: query and answer are passed on as they are.

The rules of this module:

- An answer counts only if it comes from the resolver that was asked, to the port that the query was
  sent from, with the ID and the question that were sent (RFC 5452, section 9.1). Port and ID are
  drawn at random for each query, whatever ID the client chose.
- A query is forwarded over the transport by which it came. If an answer is truncated, it is for the
  client to ask again over TCP.
- A slow resolver is not given up: the next one is asked as well, and the first good answer wins.
- Both the number of queries under way and the wait are bounded.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass

import dns.name
import dns.rcode
import structlog

from control_plane import log_events
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.answer import Transport
from control_plane.sidecar.dns.message import MAX_MESSAGE_OCTETS, framed, is_answer, rcode_of

_Asking = Coroutine[None, None, bytes | None]
_Exchange = Callable[[SocketAddress, bytes, bytes], Coroutine[None, None, bytes]]

_POOR = frozenset({dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
"""Answers after which glibc asks the next resolver; so do we, because we are the only resolver that
glibc has."""


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """How long to wait for answers, and how many queries may be under way.

    Attributes:
        patience: seconds after which the next resolver is asked as well.
        total: seconds after which a query has failed; stub resolvers ask again after 5
            (resolv.conf(5)).
        queries: how many queries may be under way at once, each with one socket or more.
        quiet: seconds without a failure after which all is well, whatever failed before; and for
            how long a crowd is not logged again.
    """

    patience: float = 1.0
    total: float = 4.5
    queries: int = 256
    quiet: float = 600.0


class Upstreams:
    """The resolvers behind this server."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[SocketAddress]],
        limits: UpstreamLimits | None = None,
    ) -> None:
        """Ask the resolvers that `addresses` returns at that moment, in their order."""
        self._addresses = addresses
        self._limits = limits or UpstreamLimits()
        self._asking = 0
        self._unanswered = b""
        self._failed_at = 0.0
        self._crowd_told_until = 0.0
        self._log = structlog.get_logger(__name__)

    async def ask(self, query: bytes, question: bytes, transport: Transport) -> bytes | None:
        """Return the best answer that can be had, or None if there is none.

        Args:
            query: the message as the client sent it.
            question: its question section.
            transport: the transport by which it came, and by which it is forwarded.
        """
        if self._asking >= self._limits.queries:
            self._note_crowd()
            return None
        exchange = _over_tcp if transport is Transport.TCP else _over_udp
        self._asking += 1
        try:
            answer = await self._race(lambda each: _ask(exchange, each, query, question))
        finally:
            self._asking -= 1
        self._note(question, failing=answer is None)
        return answer

    async def _race(self, ask: Callable[[SocketAddress], _Asking]) -> bytes | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.total
        waiting = deque(self._addresses())
        asking: set[asyncio.Task[bytes | None]] = set()
        poor: bytes | None = None
        try:
            while (waiting or asking) and (left := deadline - loop.time()) > 0:
                if waiting:
                    asking.add(asyncio.create_task(ask(waiting.popleft())))
                patience = min(self._limits.patience, left) if waiting else left
                done, asking = await asyncio.wait(
                    asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for answer in filter(None, (each.result() for each in done)):
                    if rcode_of(answer) not in _POOR:
                        return answer
                    poor = poor or answer
            return poor
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _note(self, question: bytes, *, failing: bool) -> None:
        """Log when the resolvers stop answering and when they answer again, not each query.

        They answer again once they answer the question that failed last. Answers for other names
        prove nothing, because it may be that only the servers of one zone are down.
        """
        asked, now = question.lower(), asyncio.get_running_loop().time()
        if failing:
            if not self._unanswered:
                name = dns.name.from_wire(question, 0)[0].to_text(omit_final_dot=True)
                why = "no upstream resolver answered"
                self._log.warning(log_events.UPSTREAMS_LOST, reason=why, name=name)
            self._unanswered, self._failed_at = asked, now
        elif self._unanswered and (
            asked == self._unanswered or now - self._failed_at >= self._limits.quiet
        ):
            self._log.info(log_events.UPSTREAMS_RECOVERED)
            self._unanswered = b""

    def _note_crowd(self) -> None:
        """Log, once in a while, that queries fail for their number though resolvers may answer."""
        now = asyncio.get_running_loop().time()
        if now >= self._crowd_told_until:
            self._crowd_told_until = now + self._limits.quiet
            why = f"{self._asking} queries wait for the resolvers already, so others fail at once"
            self._log.warning(log_events.UPSTREAMS_CROWDED, reason=why)


async def _ask(
    exchange: _Exchange, address: SocketAddress, query: bytes, question: bytes
) -> bytes | None:
    """Ask one resolver; return None if it cannot be reached."""
    sent = secrets.token_bytes(2) + query[2:]
    try:
        answer = await exchange(address, sent, question)
    except (OSError, EOFError):
        return None
    return query[:2] + answer[2:]


async def _over_udp(address: SocketAddress, query: bytes, question: bytes) -> bytes:
    """Return the first datagram that answers a query.

    Each query has a socket of its own: its port is random, and the kernel delivers only datagrams
    that come from the resolver.
    """
    loop = asyncio.get_running_loop()
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.settimeout(0)
        asked.connect(where)
        asked.send(query)
        while True:
            answer = await loop.sock_recv(asked, MAX_MESSAGE_OCTETS)
            if is_answer(answer, query, question):
                return answer


async def _over_tcp(address: SocketAddress, query: bytes, question: bytes) -> bytes:
    """Return the first message that answers a query on a connection of its own."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with closing(writer):
        writer.write(framed(query))
        while True:
            answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            if is_answer(answer, query, question):
                return answer
