"""When which instance has to be looked at again, though nobody changed anything.

The rule of this module: it is a queue of moments, and asks nobody what time it is. An instance is
in it once, for the earliest of its moments; whoever takes it looks at the instance as a whole, and
queues it anew.
"""

from __future__ import annotations

import heapq
from datetime import datetime

from control_plane.names import InstanceGuid


class RenewalQueue:
    """Instances by the moment of their next renewal."""

    def __init__(self) -> None:
        """Start with nothing to renew."""
        self._heap: list[tuple[datetime, InstanceGuid]] = []
        self._at: dict[InstanceGuid, datetime] = {}

    def add(self, instance: InstanceGuid, at: datetime) -> None:
        """Queue an instance, unless it has an earlier moment already."""
        before = self._at.get(instance)
        if before is None or at < before:
            self._at[instance] = at
            heapq.heappush(self._heap, (at, instance))

    def next(self) -> datetime | None:
        """Return the moment of the next renewal."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime) -> list[InstanceGuid]:
        """Take everybody whose moment has come, the earliest first."""
        due = []
        while (at := self.next()) is not None and at <= now:
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
