"""When it is each instance's turn, if something has to happen to all instances.

The rule of this module: turns are spread evenly, and follow from the instance and from the moment
at which the operation began. So they are the same after a restart, and nobody has to keep a list.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from control_plane.ca import draw
from control_plane.names import InstanceGuid

CERTIFICATES_PER_SECOND = 100.0
"""The rate at which the certificates of a CA that leaves are replaced: 5,000 instances take 50 s.
It is a tenth of what one process can do."""

IDENTITIES_PER_SECOND = 20.0
"""The same for identities. Each one costs some handshakes: the sidecar, its Envoy and its resolver
reconnect with it."""


def turn(instance: InstanceGuid, since: datetime, instances: int, *, per_second: float) -> datetime:
    """Return when it is an instance's turn.

    Args:
        instance: the instance.
        since: when the operation began.
        instances: how many instances have a turn.
        per_second: how many turns there are per second, on average.
    """
    return since + timedelta(seconds=draw(f"turn:{instance}") * instances / per_second)


class Rush:
    """Tells whether things arrive so fast that it pays to spread them."""

    def __init__(self, many: int, seconds: float) -> None:
        """Call it a rush when this many arrive within this many seconds."""
        self._moments: deque[float] = deque(maxlen=many)
        self._seconds = seconds

    def note(self, now: float) -> None:
        """Take note that one more arrived, at a moment of a monotonic clock."""
        self._moments.append(now)

    def is_on(self, now: float) -> bool:
        """Tell whether there is a rush."""
        is_full = len(self._moments) == self._moments.maxlen
        return is_full and now - self._moments[0] <= self._seconds
