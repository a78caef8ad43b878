"""Processes that a container's first process inherits."""

from __future__ import annotations

import subprocess
import sys

INHERITS = """
import ctypes
PR_SET_CHILD_SUBREAPER = 36  # prctl(2): inherit orphans as the first process of a container does
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
"""

REAPS = """
import subprocess, time
from control_plane.sidecar.processes.orphans import reap

own = subprocess.Popen(["sleep", "0.3"])
parent = subprocess.Popen(["sh", "-c", "sleep 0.1 & sleep 0.1 & exit 0"])
parent.wait()
deadline, reaped = time.monotonic() + 10, 0
while reaped < 2 and time.monotonic() < deadline:
    reaped += reap([own.pid])
    time.sleep(0.02)
while own.poll() is None and reap([own.pid]) == 0:
    time.sleep(0.02)
print(reaped, own.returncode, reap([own.pid]))
"""

RUNS = """
import asyncio, os
from control_plane.sidecar.processes.orphans import OrphanReaper

class Still:
    async def sleep(self, seconds):
        await asyncio.get_running_loop().create_future()

async def main():
    own = await asyncio.create_subprocess_exec("sleep", "0.5")
    parent = await asyncio.create_subprocess_exec(
        "sh", "-c", "(sleep 0.1; exit) & (sleep 0.2; exit) & exit 0"
    )
    running = asyncio.create_task(OrphanReaper([own.pid, parent.pid], Still()).run())
    codes = await own.wait(), await parent.wait()
    running.cancel()
    await asyncio.wait([running])
    print(*codes)

asyncio.run(main())
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""


def test_an_orphan_that_ends_is_waited_for_at_once() -> None:
    """Hundreds that ended in a few seconds would be as many processes less for the app."""
    ran = subprocess.run(
        [sys.executable, "-c", INHERITS + RUNS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("0 0\nno child\n", "")


def test_orphans_are_waited_for_and_own_children_are_not() -> None:
    """Two orphans leave no zombie, and the own child's exit code is still there."""
    ran = subprocess.run(
        [sys.executable, "-c", INHERITS + REAPS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("2 0 0\n", "")
