"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UPTIME = timedelta(hours=1)
"""Not none, or whoever forgets since when something goes on would be right."""


async def settled() -> None:
    """Let every task run until it waits for something that the test has to do."""
    for _ in range(20):
        await asyncio.sleep(0)


class ManualClock:
    """Time as the test tells it; who sleeps wakes when the test has moved it far enough."""

    def __init__(self) -> None:
        """Start at noon."""
        self._now = NOON
        self._set_by = timedelta()
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the time of the test."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since the machine started an hour ago, however the clock was set."""
        return (self._now - self._set_by - NOON + UPTIME).total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the clock by that much."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), woken))
        await woken

    def set(self, by: timedelta) -> None:
        """Set the wall clock forward or back; who sleeps does so as long as before."""
        self._now += by
        self._set_by += by
        self._sleepers = [(at + by, woken) for at, woken in self._sleepers]

    async def advance(self, seconds: float) -> None:
        """Move the clock, waking who slept long enough, the first to wake first."""
        end = self._now + timedelta(seconds=seconds)
        await settled()
        while due := sorted(
            ((at, woken) for at, woken in self._sleepers if at <= end), key=lambda each: each[0]
        ):
            self._now, woken = max(due[0][0], self._now), due[0][1]
            self._sleepers.remove(due[0])
            if not woken.done():
                woken.set_result(None)
            await settled()
        self._now = end
        await settled()
