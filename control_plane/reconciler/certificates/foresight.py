"""Certificates that are issued while the disk has yet to confirm that their routes are mapped.

The rule of this module: it only makes things faster. Nobody gets what it has issued before the
change is on the disk, and what is not wanted then is forgotten. It takes about as long as the disk
does; for an instance whose turn does not come it is done afterwards, as for everybody in a crowd.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.clock import Clock
from control_plane.model.change import Change
from control_plane.model.entities import RouteMapping
from control_plane.model.state import State
from control_plane.reconciler.certificates.due import Certificates
from control_plane.reconciler.connected import ConnectedInstances

FORESEEN_SECONDS = 0.002
"""How long certificates are issued ahead; a disk takes longer to confirm what was written."""


class Foresight:
    """Follows what the registry is writing."""

    def __init__(
        self,
        certificates: Certificates,
        connected: ConnectedInstances,
        is_crowd: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """Have these certificates issued for who is connected.

        Args:
            is_crowd: tells whether so many wait for certificates that each has a turn.
            clock: times it.
        """
        self._certificates = certificates
        self._connected = connected
        self._is_crowd = is_crowd
        self._clock = clock

    def foreseen(self, state: State, change: Change) -> None:
        """Issue for those of whose apps routes are being mapped."""
        self._certificates.forget_foreseen()
        until = self._clock.monotonic() + FORESEEN_SECONDS
        apps = {each.app_guid for each in change.puts if isinstance(each, RouteMapping)}
        for guid in (each for app in apps for each in self._connected.of(app)):
            if self._clock.monotonic() >= until or self._is_crowd():
                return
            instance = state.instance(guid)
            if instance is not None:
                self._certificates.foresee(state, instance)
