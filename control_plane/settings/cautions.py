"""Values of settings that are allowed, although they are hardly ever meant.

The rule of this module: an operator who checks settings reads the caution before it matters, and
one who starts a server with them finds it in the log. No setting is refused because of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from control_plane.settings.fields import Settings

UNKNOWN_HOST = "HOST"
"""Stands for the address at which sidecars reach the server, if no setting names one. Host names
are read into lower case, so no host can have this name."""

_UNPROXIED = (
    "every container exposes an application port, and it becomes the responsibility of the "
    "application developer to terminate the SSL traffic"
)
"""Why this is a security risk, in the words of Cloud Foundry's announcement."""


class Caution(NamedTuple):
    """A setting, and what the operator should know about its value."""

    setting: str
    reason: str


def enroll_host(settings: Settings) -> str:
    """Return the host at which sidecars reach the server to enrol, as far as it is known."""
    address = settings.enroll_address
    default = UNKNOWN_HOST if address.is_every else address.host
    return next(iter(settings.server_names), default)


def cautions(settings: Settings) -> Iterator[Caution]:
    """Yield a caution for every value that is hardly ever meant."""
    if settings.unproxied_port_mappings:
        yield Caution("unproxied_port_mappings", _UNPROXIED)
    if enroll_host(settings) == UNKNOWN_HOST:
        yield Caution(
            "enroll_address",
            f"nobody can connect to {settings.enroll_address}: set --server-name to where "
            "sidecars reach this server, so that join-token can tell them",
        )
