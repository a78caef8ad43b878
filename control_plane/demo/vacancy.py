"""Whether the demo's addresses are free.

The rule of this module: the addresses are always the same, so that documents can name them, and are
checked before anything starts. If one of them is taken, then most often by another demo.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from control_plane.demo.places import APP_PORT, DNS_PORT, Place
from control_plane.errors import ConfigurationError
from control_plane.names import C2C_PORT


def check_vacant(places: Iterable[Place]) -> None:
    """Check that instances can listen at their places.

    Raises:
        ConfigurationError: another program listens there.
    """
    for place in places:
        for address, port in (
            (place.app_address, APP_PORT),
            (place.address, C2C_PORT),
            (place.address, DNS_PORT),
        ):
            _check(address, port)


def _check(address: str, port: int) -> None:
    with socket.socket() as probe:
        # Connections that are left from a demo that has ended do not occupy an address.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            problem = (
                f"the demo cannot listen on {address}:{port}: {error.strerror}: is another demo "
                "running? End it first ('ss -lntp' shows what listens)"
            )
            raise ConfigurationError([problem]) from error
