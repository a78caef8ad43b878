"""Processes that a container's first process inherits."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, os, subprocess, sys, time
from control_plane.sidecar.processes.orphans import reap

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): inherit orphans as the first process of a container does
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

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


def test_orphans_are_waited_for_and_own_children_are_not() -> None:
    """Two orphans leave no zombie, and the own child's exit code is still there."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.stdout, ran.stderr) == ("2 0 0\n", "")
