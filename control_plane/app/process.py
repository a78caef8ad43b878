"""The limits of this process, whatever the settings say.

The rule of this module: a default of the shell does not decide how many clients may connect, and a
default for small programs does not decide how often the garbage collector runs.
"""

from __future__ import annotations

import gc
import math
import resource

from control_plane.app.port_limits import FEWEST_FILES, open_files, shares
from control_plane.errors import ConfigurationError

CLIENTS_OF_INSTANCE = 3
"""The connections of one instance: its Envoy, its resolver, and its sidecar, which reports."""

_SHARE_OF_CLIENTS = 3 / 4
"""The smallest share of the files that the xDS port gets; out of many files, it gets more."""

_USUAL_FILES = 1024
_RAISE = "raise the limit ('ulimit -Hn', LimitNOFILE= of systemd, --ulimit nofile= of Docker)"


def allow_connections() -> float:
    """Raise the limit on open files as far as this user may; shells start with 1,024.

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
    """Return why these files may not suffice for the fleet that is known; "" if they do."""
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
    """Have the garbage collector ignore what stays, and look at the rest less often.

    Everything that a big fleet holds is reachable. Scanning it after every 700 new objects, which
    is Python's default, took an eighth of the time of a rotation.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
