"""A clock that a test moves, for code that asks for the time and never waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
UPTIME = timedelta(hours=1)
"""Not none, or whoever forgets since when something goes on would be right."""


class StillClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        """Start at noon."""
        self.time = NOON
        self._set_by = timedelta()

    def now(self) -> datetime:
        """Return what the test set."""
        return self.time

    def monotonic(self) -> float:
        """Return seconds since the machine started an hour ago, however the clock was set."""
        return (self.time - self._set_by - NOON + UPTIME).total_seconds()

    def set(self, by: timedelta) -> None:
        """Set the wall clock forward or back."""
        self.time += by
        self._set_by += by

    async def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.time += timedelta(seconds=seconds)
