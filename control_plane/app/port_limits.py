"""How much the clients of each port may ask for.

The rule of this module: no port can take what another one needs. Each connection is an open file,
so the files that this process may open are shared out among the ports before any client connects. A
client that fills one port, as any stranger can, does not affect the other ports, the disk, or the
operator on the machine.
"""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass

from control_plane.server.limits import ServerLimits
from control_plane.settings import Settings
from control_plane.xds.limits import StreamLimits

FEWEST_FILES = 64
"""Without any client, some 30 files are open."""

_FEWEST_SHARED = 32
_MOST_FILES = 1 << 30
"""How many files are shared out where the system has no limit."""

_OTHER_CALLS = 8
"""The calls of a sidecar, which reports and renews, and streams that end while others begin."""

_OCTETS_PER_SECOND = 512 * 1024
"""Eight requests a second with everything that Envoy says about itself."""

_MOST_ENROLLING, _MOST_OPERATORS, _MOST_OTHERS = 2048, 128, 256


@dataclass(frozen=True, slots=True)
class Shares:
    """How many connections each port may have.

    Attributes:
        enrollment: clients show no certificate here; each connection is over after a minute at
            most.
        operators: connections over TCP.
        xds: nearly everything that is left; the socket and the HTTP port need only a few.
    """

    enrollment: int
    operators: int
    xds: int


def open_files() -> float:
    """Return how many files this process may open at present."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def shares(files: float) -> Shares:
    """Share out this number of files."""
    spare = max(_FEWEST_SHARED, int(min(files, _MOST_FILES)) - FEWEST_FILES)
    enrollment = min(spare // 8, _MOST_ENROLLING)
    operators = min(spare // 16, _MOST_OPERATORS)
    others = min(spare // 16, _MOST_OTHERS)
    return Shares(enrollment, operators, spare - enrollment - operators - others)


def limits_of(settings: Settings) -> ServerLimits:
    """Return the limits from the settings, which all ports have in common."""
    return ServerLimits(
        stream=StreamLimits(names=settings.max_names_per_stream),
        streams_per_node=settings.max_streams_per_node,
        calls_per_client=settings.max_streams_per_node + _OTHER_CALLS,
        new_streams_per_second=settings.max_new_streams_per_second,
        new_streams_burst=settings.max_new_streams_per_second,
        request_octets=settings.max_message_size,
        request_octets_per_second=_OCTETS_PER_SECOND,
        refused_enrollments_per_minute=settings.max_refused_enrollments_per_minute,
    )
