"""What settings allow although it is hardly ever meant.

The rule of this module: whoever checks settings reads it before it counts, and whoever starts a
server with them finds it in the log. Nothing is refused for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from control_plane.settings.fields import Settings

UNKNOWN_HOST = "HOST"
"""Stands for where sidecars reach the server if nobody said so; names of hosts are read into lower
case, so that none is called that."""

_UNPROXIED = (
    "every container exposes an application port, and it becomes the responsibility of the "
    "application developer to terminate the SSL traffic"
)
"""Why Cloud Foundry's announcement calls this a security risk, in its words."""


class Caution(NamedTuple):
    """A setting, and what is to be known of its value."""

    setting: str
    reason: str


def enroll_host(settings: Settings) -> str:
    """Return where sidecars reach the server to enrol, as far as it is known."""
    address = settings.enroll_address
    default = UNKNOWN_HOST if address.is_every else address.host
    return next(iter(settings.server_names), default)


def cautions(settings: Settings) -> Iterator[Caution]:
    """Name everything that is hardly ever meant."""
    if settings.unproxied_port_mappings:
        yield Caution("unproxied_port_mappings", _UNPROXIED)
    if enroll_host(settings) == UNKNOWN_HOST:
        yield Caution(
            "enroll_address",
            f"nobody can connect to {settings.enroll_address}: say with --server-name where "
            "sidecars reach this server, so that join-token can tell them",
        )
