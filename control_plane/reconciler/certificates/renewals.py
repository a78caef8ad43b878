"""When which instance has to be looked at again, though nobody changed anything.

The rule of this module: it knows moments, and asks nobody what time it is. An instance is in the
queue once, for the earliest of its moments; whoever takes it looks at the instance as a whole, and
queues it anew. What fails is tried again after pauses that grow.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.ca import draw
from control_plane.names import InstanceGuid

RETRY = timedelta(seconds=5)
"""When a certificate that could not be issued, or a plan that could not be made, is tried again."""

LONGEST_RETRY = timedelta(minutes=1)
"""What that pause, which doubles with every failure, never passes: a CA that can sign again has
renewed everybody a minute later."""

RETRY_JITTER = 0.2
"""The part of the pause that depends on the instance, so that those that failed together do not
come back together."""

AT_ONCE = 50
"""Instances that are taken together; then others have a turn of ``PAUSE_SECONDS``."""

PAUSE_SECONDS = 0.1
"""After a jump of the clock everybody is due: 5,000 instances are taken in 10 s."""

JUMP = timedelta(minutes=1)
"""A clock that is put right by less changes nothing, since certificates are back-dated by more."""


class RenewalQueue:
    """Instances by the moment of their next renewal."""

    def __init__(self) -> None:
        """Start with nothing to renew."""
        # Of each instance only the entry with its moment in ``_at`` counts.
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
        """Take those whose moment has come, the earliest first, and no more than the limit."""
        due: list[InstanceGuid] = []
        while len(due) != limit and (at := self.next()) is not None and at <= now:
            instance = heapq.heappop(self._heap)[1]
            del self._at[instance]
            due.append(instance)
        return due

    def forget(self, instance: InstanceGuid) -> None:
        """Take out an instance that was removed."""
        self._at.pop(instance, None)

    def _drop_outdated(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class Retries:
    """When what failed is tried again, by instance and secret."""

    def __init__(self) -> None:
        """Start with nothing that failed."""
        self._failed: dict[InstanceGuid, dict[str, tuple[int, datetime]]] = {}

    def failed(self, instance: InstanceGuid, name: str, now: datetime) -> datetime:
        """Note a failure; return when to try again.

        Whoever tries before that for another reason does not put it off. A moment that is further
        away than any pause is of a clock that was ahead, and counts for nothing.
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
    """Tells when the wall clock was set, by holding it against one that only goes forward.

    Attributes:
        now: the wall clock's time when it was asked last.
        monotonic: the other one's, in seconds.
    """

    now: datetime
    monotonic: float

    def by(self, now: datetime, monotonic: float) -> timedelta:
        """Return how far the wall clock was moved since this was asked last."""
        passed = timedelta(seconds=monotonic - self.monotonic)
        moved = now - self.now - passed
        self.now, self.monotonic = now, monotonic
        return moved


def _pause(instance: InstanceGuid, times: int) -> timedelta:
    pause: timedelta = min(LONGEST_RETRY, RETRY * 2 ** min(times, 10))
    return pause * (1 - RETRY_JITTER * draw(f"retry:{instance}:{times}"))
