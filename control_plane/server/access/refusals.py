"""Refusals that are too many to be told one by one.

The rule of this module: whoever is refused again and again cannot fill a disk with it. Whatever a
bound turns away, and whatever is refused to a client that has had its share of lines, is counted,
and told to the audit log every few seconds, in one line for each kind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.server.limits import TokenBuckets

TELLING_SECONDS = 10.0
"""How long refusals are counted before they are told."""

LINES_PER_MINUTE = 30
"""How many refusals of one kind are told of one client with a line each."""

_SHOWN = 10
"""How many of those who were refused one line names at the most."""


@dataclass(slots=True)
class _Untold:
    count: int = 0
    by: dict[str, None] = field(default_factory=dict)


class RefusalTally:
    """Counts refusals, and tells of them now and then."""

    def __init__(self, clock: Clock) -> None:
        """Start with nobody refused."""
        self._clock = clock
        self._untold: dict[str, _Untold] = {}
        self._lines: dict[str, TokenBuckets] = {}
        self._some = asyncio.Event()
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    def has_line(self, event: str, who: str, shown: str = "") -> bool:
        """Tell whether a refusal may have a line of its own; if not, it is counted.

        Args:
            event: the line that tells of those that had none.
            who: was refused.
            shown: what that line calls it, if not by this.
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
            event: the line that tells of it and of others like it.
            who: the address or the instance that was refused.
        """
        untold = self._untold.setdefault(event, _Untold())
        untold.count += 1
        if len(untold.by) < _SHOWN:
            untold.by[who] = None
        self._some.set()

    async def run(self) -> None:
        """Tell what was counted until cancelled, and then the rest."""
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
