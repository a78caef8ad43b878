"""When which instance's certificate is to be renewed.

The rule of this module: it is a queue of moments, and asks nobody what time it is. An entry may be
out of date; whoever takes it looks at the certificate again.
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

    def add(self, instance: InstanceGuid, at: datetime) -> bool:
        """Queue an instance; tell whether it is the next one now."""
        heapq.heappush(self._heap, (at, instance))
        return self._heap[0] == (at, instance)

    def next(self) -> datetime | None:
        """Return the moment of the next renewal."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime) -> list[InstanceGuid]:
        """Take everybody whose moment has come."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[1])
        return due
