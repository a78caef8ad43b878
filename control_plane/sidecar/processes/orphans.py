"""Processes that nobody waits for.

The rule of this module: as the first process of a container the sidecar inherits every process
whose parent ended, and each of them stays a zombie until it is waited for. That is at once, since
zombies count against the processes that a container may have. The sidecar's own children are left
to those parts of it that started them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection
from contextlib import suppress

from control_plane.clock import Clock
from control_plane.sidecar.race import first_of

LOOK_SECONDS = 5.0
"""When to look again for those that were behind one of our own at the last look."""

FIRST_PROCESS = 1


class OrphanReaper:
    """Waits for what others left behind."""

    name = "orphans"

    def __init__(self, own: Collection[int], clock: Clock) -> None:
        """Leave these processes to others."""
        self._own = frozenset(own)
        self._clock = clock

    async def run(self) -> None:
        """Look whenever a child has ended, and now and then, without end."""
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, told.set)
        try:
            while True:
                told.clear()
                reap(self._own)
                await first_of(told.wait(), self._clock.sleep(LOOK_SECONDS))
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)


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
