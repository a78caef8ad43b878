"""Issues certificates for routes that are being mapped, before the disk confirms the change.

The rule of this module: it only makes things faster. A certificate that it had issued is given to
nobody before the change is on disk, and is forgotten if it is not wanted then. It takes about as
long as the disk does. Certificates of instances that it does not get to are issued afterwards, as
they are for all instances when a crowd waits.
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
"""How long certificates are issued ahead; a disk takes longer than that to confirm a write."""


class Foresight:
    """Follows what the registry is writing."""

    def __init__(
        self,
        certificates: Certificates,
        connected: ConnectedInstances,
        is_crowd: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """Issue these certificates for the instances that are connected.

        Args:
            is_crowd: tells whether so many instances wait for certificates that each has to wait
                its turn.
            clock: measures how long issuing ahead takes.
        """
        self._certificates = certificates
        self._connected = connected
        self._is_crowd = is_crowd
        self._clock = clock

    def foreseen(self, state: State, change: Change) -> None:
        """Issue ahead for the connected instances of the apps whose routes are being mapped."""
        self._certificates.forget_foreseen()
        until = self._clock.monotonic() + FORESEEN_SECONDS
        apps = {each.app_guid for each in change.puts if isinstance(each, RouteMapping)}
        for guid in (each for app in apps for each in self._connected.of(app)):
            if self._clock.monotonic() >= until or self._is_crowd():
                return
            instance = state.instance(guid)
            if instance is not None:
                self._certificates.foresee(state, instance)
