"""When which instance has to be looked at again although nothing changed.

The rule of this module: it knows moments, and never asks a clock. An instance is in the queue once,
at the earliest of its moments. The caller that takes an instance looks at it as a whole and queues
it anew. What fails is retried after pauses that grow.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.ca import draw
from control_plane.names import InstanceGuid

RETRY = timedelta(seconds=5)
"""After how long issuing a certificate, or making a plan, is first retried."""

LONGEST_RETRY = timedelta(minutes=1)
"""The upper limit of that pause, which doubles with each failure. Once a CA can sign again, all
instances are renewed within a minute."""

RETRY_JITTER = 0.2
"""The part of the pause that depends on the instance, so that instances that failed together do not
come back together."""

AT_ONCE = 50
"""How many instances are taken together before others have a turn of ``PAUSE_SECONDS``."""

PAUSE_SECONDS = 0.1
"""After a jump of the clock all instances are due: 5,000 are taken in 10 s."""

JUMP = timedelta(minutes=1)
"""Setting the clock by less than this changes nothing, since certificates are back-dated by
more."""


class RenewalQueue:
    """Instances, by the moment of their next renewal."""

    def __init__(self) -> None:
        """Start with nothing to renew."""
        # Only the entry of an instance whose moment is the one in ``_at`` counts.
        self._heap: list[tuple[datetime, InstanceGuid]] = []
        self._at: dict[InstanceGuid, datetime] = {}

    def add(self, instance: InstanceGuid, at: datetime) -> None:
        """Queue an instance, unless it has an earlier moment already."""
        before = self._at.get(instance)
        if before is None or at < before:
            self._at[instance] = at
            heapq.heappush(self._heap, (at, instance))
            if len(self._heap) > 2 * len(self._at):
                self._heap = [(moment, each) for each, moment in self._at.items()]
                heapq.heapify(self._heap)

    def next(self) -> datetime | None:
        """Return the moment of the next renewal."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime, limit: int | None = None) -> list[InstanceGuid]:
        """Take the instances whose moment has come, earliest first, up to the limit."""
        due: list[InstanceGuid] = []
        while len(due) != limit and (at := self.next()) is not None and at <= now:
            instance = heapq.heappop(self._heap)[1]
            del self._at[instance]
            due.append(instance)
        return due

    def forget(self, instance: InstanceGuid) -> None:
        """Remove an instance that was removed from the State."""
        self._at.pop(instance, None)

    def _drop_outdated(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class Retries:
    """When failed attempts are repeated, by instance and secret."""

    def __init__(self) -> None:
        """Start without failures."""
        self._failed: dict[InstanceGuid, dict[str, tuple[int, datetime]]] = {}

    def failed(self, instance: InstanceGuid, name: str, now: datetime) -> datetime:
        """Note a failure; return when to try again.

        An attempt that was made earlier for another reason, and failed too, does not put that off.
        A moment that is further away than the longest pause was set while the clock was ahead, and
        is ignored.
        """
        failed = self._failed.setdefault(instance, {})
        times, at = failed.get(name, (0, now))
        if not now < at <= now + LONGEST_RETRY:
            at = now + _pause(instance, times)
            failed[name] = times + 1, at
        return at

    def succeeded(self, instance: InstanceGuid, name: str) -> None:
        """Forget the failures of a secret."""
        self._failed.get(instance, {}).pop(name, None)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._failed.pop(instance, None)


@dataclass(slots=True)
class Jumps:
    """Tells when the wall clock was set, by comparing it with the monotonic clock.

    Attributes:
        now: the wall clock's time at the last call.
        monotonic: the monotonic clock's time at the last call, in seconds.
    """

    now: datetime
    monotonic: float

    def by(self, now: datetime, monotonic: float) -> timedelta:
        """Return how far the wall clock was moved since the last call."""
        passed = timedelta(seconds=monotonic - self.monotonic)
        moved = now - self.now - passed
        self.now, self.monotonic = now, monotonic
        return moved


def _pause(instance: InstanceGuid, times: int) -> timedelta:
    pause: timedelta = min(LONGEST_RETRY, RETRY * 2 ** min(times, 10))
    return pause * (1 - RETRY_JITTER * draw(f"retry:{instance}:{times}"))
