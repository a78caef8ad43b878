"""The memory of a process that has private keys.

The rule of this module: they are in memory and nowhere else, so the memory is in no file.
"""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4
"""prctl(2)."""


def forbid_dumps() -> None:
    """Keep this process's memory to itself: no core dump, and no debugger of its own user.

    A limit alone does not hold where the kernel pipes dumps to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
