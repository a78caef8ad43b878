"""The loop that has instances looked at again when their moment comes.

The rule of this module: it decides nothing. An instance is looked at as a whole, so a moment that
was too early costs only a look. If the clock was set back, all instances are due, a few at a time.
Each jump of the clock is logged, since everybody else refuses certificates that follow a wrong
clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.renewals import (
    AT_ONCE,
    JUMP,
    PAUSE_SECONDS,
    Jumps,
    RenewalQueue,
)

_LONGEST_WAIT = 1.0
"""In seconds. A certificate that is added during a wait may have to be renewed before the next one
in the queue."""


class Renewing:
    """Follows the queue of moments."""

    def __init__(
        self,
        queue: RenewalQueue,
        connected: Callable[[], Iterable[InstanceGuid]],
        look: Callable[[InstanceGuid], None],
        jumped: Callable[[], None],
        clock: Clock,
        issued: Iterable[datetime] = (),
    ) -> None:
        """Start with what is in the queue.

        Args:
            queue: the moments.
            connected: returns the connected instances; no others are looked at.
            look: has an instance looked at, if it is connected.
            jumped: is called when the clock was set.
            clock: tells what is due, and whether it was set.
            issued: when the certificates of an earlier run become valid; if that is in the future,
                the clock was set back since.
        """
        self._queue = queue
        self._connected = connected
        self._look = look
        self._jumped = jumped
        self._clock = clock
        self._jumps = Jumps(max([clock.now(), *issued]), clock.monotonic())
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Have the instances looked at that are due, until cancelled."""
        pause = 0.0
        while True:
            at = self._queue.next()
            left = _LONGEST_WAIT if at is None else (at - self._clock.now()).total_seconds()
            await self._clock.sleep(min(_LONGEST_WAIT, max(pause, left)))
            now = self._clock.now()
            moved = self._jumps.by(now, self._clock.monotonic())
            if abs(moved) > JUMP:
                self._log.warning(log_events.CLOCK_SET, seconds=round(moved.total_seconds()))
                self._jumped()
            if moved < -JUMP:
                self._look_at_all(now)
            due = self._queue.take_due(now, AT_ONCE)
            pause = PAUSE_SECONDS if len(due) == AT_ONCE else 0.0
            for instance in due:
                self._look(instance)

    def _look_at_all(self, now: datetime) -> None:
        """Have all connected instances looked at: their certificates may not be valid yet."""
        for instance in self._connected():
            self._queue.add(instance, now)
