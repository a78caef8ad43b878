"""What this process may do, whatever the settings say.

The rule of this module: how many may connect is not decided by a default of the shell, nor how
often memory is searched by a default for small programs.
"""

from __future__ import annotations

import gc
import math
import resource

from control_plane.app.port_limits import FEWEST_FILES, open_files, shares
from control_plane.errors import ConfigurationError

CLIENTS_OF_INSTANCE = 3
"""What connects for one: its Envoy, its resolver, and its sidecar, which reports."""

_SHARE_OF_CLIENTS = 3 / 4
"""How much of the files their port has at the least; of many files it has more."""

_USUAL_FILES = 1024
_RAISE = "raise the limit ('ulimit -Hn', LimitNOFILE= of systemd, --ulimit nofile= of Docker)"


def allow_connections() -> float:
    """Raise the limit of open files as far as this user may; shells start with 1,024.

    Returns:
        how many files, and so connections, this process may have open.

    Raises:
        ConfigurationError: they are too few for a server.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = open_files()
    if most < FEWEST_FILES:
        problem = (
            f"this process may have {most:.0f} files open, and a server needs {FEWEST_FILES} and "
            f"one for each connection: {_RAISE}"
        )
        raise ConfigurationError([problem])
    return most


def why_too_few(files: float, instances: int) -> str:
    """Return why so many files are hardly enough for a fleet that is known; "" if they are."""
    clients = CLIENTS_OF_INSTANCE * instances
    if files >= _USUAL_FILES and shares(files).xds >= clients:
        return ""
    needed = FEWEST_FILES + math.ceil(clients / _SHARE_OF_CLIENTS)
    known = f", and the {instances} instances that are known need {needed}" if instances else ""
    return (
        f"this process may have {files:.0f} files open, of which each connection is one{known}: "
        f"whoever is one too many cannot connect, so {_RAISE}"
    )


def search_memory_less() -> None:
    """Have the garbage collector leave alone what stays, and look at the rest less often.

    All that a big fleet holds is reachable. Looking through it after every 700 new objects, which
    is Python's default, took an eighth of the time of a rotation.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
