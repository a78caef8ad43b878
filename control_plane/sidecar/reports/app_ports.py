"""Which ports of the app are observed.

The rule of this module: the control plane knows the ports. What it tells is followed while the app
runs, and stored for the next start, when the control plane may be down. Ports that the operator
names stay, whatever the control plane tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from control_plane import log_events
from control_plane.names import DEFAULT_APP_PORT, Port, parse_port
from control_plane.sidecar.directory import Enrollment, SidecarDirectory
from control_plane.undisturbed import undisturbed


@dataclass(frozen=True, slots=True)
class AppPorts:
    """The ports of an app.

    Attributes:
        every: all of them.
        c2c: the port that 61443 leads to; None if the operator named the ports, and so means each.
    """

    every: tuple[Port, ...]
    c2c: Port | None = None

    @property
    def needed(self) -> tuple[Port, ...]:
        """The ports on which an app has to listen before it is called."""
        return self.every if self.c2c is None else (self.c2c,)

    @property
    def first(self) -> Port:
        """The port that an app is told to listen on."""
        return self.needed[0]


class LivePorts:
    """The ports of the app as they are now."""

    def __init__(
        self, directory: SidecarDirectory, enrollment: Enrollment, named: Sequence[Port] = ()
    ) -> None:
        """Start with the ports that were known last.

        Args:
            directory: where they are stored.
            enrollment: what is stored there.
            named: the ports that the operator named; empty to follow the control plane.
        """
        self._directory = directory
        self._enrollment = enrollment
        self._is_named = bool(named)
        self._current = AppPorts(tuple(named)) if named else _told(enrollment)

    @property
    def current(self) -> AppPorts:
        """The ports to observe now."""
        return self._current

    async def follow(self, c2c_port: int, app_ports: Sequence[int]) -> None:
        """Observe these ports from now on; a control plane that tells of none is an older one.

        Raises:
            InvalidArgument: one of them is not a port; nothing changed.
            StorageError: they could not be stored for the next start.
        """
        if self._is_named or not app_ports:
            return
        enrollment = replace(self._enrollment, c2c_port=c2c_port, app_ports=tuple(app_ports))
        if enrollment == self._enrollment:
            return
        told = _told(enrollment)
        if told != self._current:
            self._current = told
            structlog.get_logger(__name__).info(
                log_events.APP_PORTS_LEARNED, ports=told.every, c2c_port=told.c2c
            )
        # In a thread, because a slow disk would hold up DNS queries.
        await undisturbed(asyncio.to_thread(self._directory.write_enrollment, enrollment))
        self._enrollment = enrollment


def _told(enrollment: Enrollment) -> AppPorts:
    """Return the ports that the control plane told, or the default of apps if it told none yet."""
    every = tuple(map(parse_port, enrollment.app_ports)) or (DEFAULT_APP_PORT,)
    return AppPorts(every, parse_port(enrollment.c2c_port) if enrollment.c2c_port else every[0])
