"""Processes that nobody waits for.

The rule of this module: as the first process of a container the sidecar inherits every process
whose parent ended, and each of them stays a zombie until it is waited for. The sidecar's own
children are left to whoever started them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

from control_plane.clock import Clock

LOOK_SECONDS = 5.0
"""How long a zombie may stay; it costs nothing but its number."""

FIRST_PROCESS = 1


class OrphanReaper:
    """Waits for what others left behind."""

    name = "orphans"

    def __init__(self, own: Collection[int], clock: Clock) -> None:
        """Leave these processes to others."""
        self._own = frozenset(own)
        self._clock = clock

    async def run(self) -> None:
        """Look again and again, without end."""
        while True:
            reap(self._own)
            await self._clock.sleep(LOOK_SECONDS)


def reap(own: Collection[int]) -> int:
    """Wait for children that have ended, and return how many that were.

    It stops at one of our own, for which somebody else waits this very moment; what is behind it
    has its turn at the next look.
    """
    reaped = 0
    with suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in own:
                break
            os.waitpid(ended.si_pid, os.WNOHANG)
            reaped += 1
    return reaped
