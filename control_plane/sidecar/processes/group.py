"""The processes of a group.

The rule of this module: a process that has ended does not run any more, even if its parent has not
waited for it yet. As long as one process of a group runs, or nobody has waited for its leader, the
kernel gives the number of the group to no other.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def running(group: int) -> tuple[int, ...]:
    """Return the running processes of a group, by ascending number."""
    return tuple(sorted(filter(None, (_member(each, group) for each in _PROCESSES.iterdir()))))


def _member(process: Path, group: int) -> int:
    """Return the number of a process if it runs and belongs to a group, else 0."""
    if process.name.isdecimal():
        with suppress(OSError):
            stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
            # proc_pid_stat(5): the name, in parentheses, may contain any character.
            state, _, members_of = stat.rpartition(")")[2].split()[:3]
            if state not in "ZX" and int(members_of) == group:
                return int(process.name)
    return 0
