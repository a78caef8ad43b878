"""Refusals that are too many to be logged one by one.

The rule of this module: a client that is refused again and again cannot fill a disk with it.
Refusals by a bound, and refusals of a client that has had its share of log lines, are only counted.
Every few seconds the audit log gets one line for each kind of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.server.rates import TokenBuckets

TELLING_SECONDS = 10.0
"""How long refusals are counted before they are logged."""

LINES_PER_MINUTE = 30
"""How many refusals of one kind are logged with a line each for one client."""

_SHOWN = 10
"""How many of the refused clients one line names at most."""


@dataclass(slots=True)
class _Untold:
    count: int = 0
    by: dict[str, None] = field(default_factory=dict)


class RefusalTally:
    """Counts refusals, and logs the counts now and then."""

    def __init__(self, clock: Clock) -> None:
        """Start with no refusals."""
        self._clock = clock
        self._untold: dict[str, _Untold] = {}
        self._lines: dict[str, TokenBuckets] = {}
        self._some = asyncio.Event()
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    def has_line(self, event: str, who: str, shown: str = "") -> bool:
        """Tell whether a refusal may have a line of its own; if not, it is counted.

        Args:
            event: the log event that reports refusals without a line of their own.
            who: the client that was refused.
            shown: the name for this client in that log event, if it is not ``who``.
        """
        lines = self._lines.get(event)
        if lines is None:
            lines = self._lines[event] = TokenBuckets.per_minute(LINES_PER_MINUTE, self._clock)
        if lines.take(who):
            return True
        self.count(event, shown or who)
        return False

    def count(self, event: str, who: str) -> None:
        """Count a refusal.

        Args:
            event: the log event that reports this refusal and others like it.
            who: the address or the instance that was refused.
        """
        untold = self._untold.setdefault(event, _Untold())
        untold.count += 1
        if len(untold.by) < _SHOWN:
            untold.by[who] = None
        self._some.set()

    async def run(self) -> None:
        """Log what was counted until cancelled, and then the rest."""
        try:
            while True:
                await self._some.wait()
                await self._clock.sleep(TELLING_SECONDS)
                self._tell()
        finally:
            self._tell()

    def _tell(self) -> None:
        self._some.clear()
        told, self._untold = self._untold, {}
        for event, each in told.items():
            self._audit.warning(event, count=each.count, by=list(each.by))
