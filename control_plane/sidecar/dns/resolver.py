"""The answer to each query, whichever transport the query came by.

The rule of this module: the table is replaced between two queries, never during one. Whatever fails
on the way to an upstream resolver leads to an answer, too.
"""

from __future__ import annotations

from random import Random

import structlog

from control_plane import log_events
from control_plane.sidecar.dns.answer import Forward, Responder, Transport, failure
from control_plane.sidecar.dns.table import NameTable
from control_plane.sidecar.dns.upstream import Upstreams


class Resolver:
    """Answers from the newest table, and asks the upstream resolvers for all other names."""

    def __init__(self, upstreams: Upstreams, random: Random) -> None:
        """Start without a table: until there is one, every query gets SERVFAIL.

        Args:
            upstreams: the resolvers to ask for external names.
            random: draws the order of addresses.
        """
        self._upstreams = upstreams
        self._responder = Responder(random)
        self._table: NameTable | None = None
        self._log = structlog.get_logger(__name__)

    def use(self, table: NameTable) -> None:
        """Answer every later query from this table."""
        self._table = table

    def respond(self, wire: bytes, transport: Transport) -> bytes | Forward | None:
        """Return what can be said at once; None for a message that must get no answer."""
        return self._responder.respond(wire, transport, self._table)

    async def forward(self, wire: bytes, forward: Forward, transport: Transport) -> bytes:
        """Return the answer of an upstream resolver, or an answer that says that there was none."""
        try:
            answer = await self._upstreams.ask(wire, forward.question, transport)
        except Exception:  # noqa: BLE001 - whatever it is, only this query fails
            self._log.exception(log_events.CALL_FAILED)
            answer = None
        return failure(wire) if answer is None else answer
