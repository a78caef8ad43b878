"""Keeps the memory of a process that has private keys out of files.

The rule of this module: private keys are in memory and nowhere else, so that memory must never
reach a file.
"""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4
"""prctl(2)."""


def forbid_dumps() -> None:
    """Forbid core dumps of this process, and debuggers that run as the same user.

    A resource limit alone is not enough where the kernel pipes core dumps to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
