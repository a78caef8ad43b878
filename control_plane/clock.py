"""Time as a value: only the shell asks for the time, and it asks a ``Clock``.

The rule of this module: in the control plane and in the sidecar, nothing else calls
``datetime.now`` or ``time.monotonic``. Pure code takes ``now`` as an argument; tests pass a clock
that they move themselves. What ``cli`` and ``demo`` do once for a person reads the machine's clock.
Timers that only have to fire, and bounds on how long something may take, use the event loop
(``call_later``, ``asyncio.timeout``) and do not move with a test's clock.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of wall-clock time, of monotonic time, and of waiting."""

    def now(self) -> datetime:
        """Return the present moment as an aware datetime in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds of monotonic time."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop's clock."""
        await asyncio.sleep(seconds)
