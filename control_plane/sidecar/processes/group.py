"""The processes of a group.

The rule of this module: a process that ended and was not waited for does not run any more. As long
as one of a group runs, or its leader was not waited for, its number is nobody else's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def running(group: int) -> tuple[int, ...]:
    """Return the processes of a group that run, the oldest number first."""
    return tuple(sorted(filter(None, (_member(each, group) for each in _PROCESSES.iterdir()))))


def _member(process: Path, group: int) -> int:
    """Return the number of a process if it runs and is of a group, else 0."""
    if process.name.isdecimal():
        with suppress(OSError):
            stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
            # proc_pid_stat(5): the name, in parentheses, may have anything in it.
            state, _, members_of = stat.rpartition(")")[2].split()[:3]
            if state not in "ZX" and int(members_of) == group:
                return int(process.name)
    return 0
