"""Removes instances that left for good, or never came: no client can connect as one any more.

The rule of this module: an instance is removed once its last identity has ended and it has been
absent for as long as an identity lives; until then it may come back as itself. Otherwise absent
instances would pile up where each container has an address of its own, and would keep their indexes
from the instances that follow them. And a container that gets the address of an instance that
enrolled but never connected could call in its name.

Absence is measured by the monotonic clock, so a wall clock that is ahead for a while costs no
instance its place.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError
from control_plane.model.instances import ABSENT, remove_absent
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.holdings import Holdings
from control_plane.registry import Registry

PERIOD_SECONDS = 60.0
"""How often instances that left for good are looked for; nobody waits for that."""


class Departures:
    """Which instances are absent, and since when, as far as this process knows."""

    def __init__(self, holdings: Holdings, lifetime: timedelta, clock: Clock) -> None:
        """Start with no instance absent.

        Args:
            holdings: knows the identities that instances have.
            lifetime: the lifetime of identities that are issued now.
            clock: tells which identities have ended, and how long an instance has been absent.
        """
        self._holdings = holdings
        self._lifetime = lifetime
        self._clock = clock
        self._since: dict[InstanceGuid, float] = {}
        self._log = structlog.get_logger(__name__)

    async def run(self, registry: Registry) -> None:
        """Remove instances that left for good, until cancelled."""
        while True:
            await self._forget(registry)
            await self._clock.sleep(PERIOD_SECONDS)

    async def _forget(self, registry: Registry) -> None:
        now = self._clock.monotonic()
        instances = registry.state.instances.values()
        absent = [each.guid for each in instances if each.status in ABSENT]
        self._since = {guid: self._since.get(guid, now) for guid in absent}
        long_ago = now - self._lifetime.total_seconds()
        for_good = [
            guid for guid, at in self._since.items() if at <= long_ago and self._has_ended(guid)
        ]
        if not for_good:
            return
        try:
            await registry.execute(lambda state: remove_absent(state, for_good))
        except ControlPlaneError as error:
            self._log.warning(log_events.STORE_FAILED, reason=str(error))

    def _has_ended(self, instance: InstanceGuid) -> bool:
        """Tell whether the last identity of an instance has ended; False if it has none.

        An instance that has no identity needs none to connect.
        """
        ends = self._holdings.identity_ends(instance)
        return ends is not None and ends <= self._clock.now()
