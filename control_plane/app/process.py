"""What this process may do, whatever the settings say.

The rule of this module: how many may connect is not decided by a default of the shell, nor how
often memory is searched by a default for small programs.
"""

from __future__ import annotations

import gc
import resource


def allow_connections() -> None:
    """Raise the limit of open files as far as this user may; shells start with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def search_memory_less() -> None:
    """Have the garbage collector leave alone what stays, and look at the rest less often.

    All that a big fleet holds is reachable. Looking through it after every 700 new objects, which
    is Python's default, took an eighth of the time of a rotation.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
