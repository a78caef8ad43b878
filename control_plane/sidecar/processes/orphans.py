"""Orphaned processes.

The rule of this module: as the first process of a container, the sidecar inherits every process
whose parent has ended. When such a process ends, it stays a zombie until the sidecar waits for it.
The sidecar does so at once, because zombies count towards the limit on processes of a container.
The sidecar's own children are left to the code that started them.
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
"""How often to look for orphans that a child of our own may have hidden at the last look."""

FIRST_PROCESS = 1


class OrphanReaper:
    """Waits for the orphans that have ended."""

    name = "orphans"

    def __init__(self, own: Collection[int], clock: Clock) -> None:
        """Take the processes that are left to the code that started them."""
        self._own = frozenset(own)
        self._clock = clock

    async def run(self) -> None:
        """Look whenever a child has ended, and every few seconds, until cancelled."""
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
    """Wait for the orphans that have ended, and return how many there were.

    This stops at a child of our own, for which other code is just waiting. The orphans behind it
    get their turn at the next look.
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
