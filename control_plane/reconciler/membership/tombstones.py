"""How long a removed instance is remembered: as long as a client can prove to be that instance.

The rule of this module: no client can come back as an instance without an identity certificate, so
a tombstone ends with the last one that the instance may have. A tombstone that stays too long does
no harm; one that goes too early would leave an Envoy serving. So a tombstone also stays for as long
as an identity lives by the monotonic clock: a wall clock that is ahead for a while ends no
tombstone.

Ports and callers that have drained are forgotten along with the tombstones. While the process runs,
``reconciler.draining`` decides by the monotonic clock until when they drain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError
from control_plane.model.change import Decision
from control_plane.model.draining import drop_drained
from control_plane.model.state import State
from control_plane.model.tombstones import drop_ended_tombstones, leave_tombstones
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.holdings import Holdings
from control_plane.registry import Registry

PERIOD_SECONDS = 60.0
"""How often tombstones that are over are looked for; nobody waits for that."""

Result = TypeVar("Result")


class Tombstones:
    """Adds a tombstone to each removal, and forgets tombstones that are over."""

    def __init__(self, holdings: Holdings, lifetime: timedelta, clock: Clock) -> None:
        """Start with the tombstones in the State.

        Args:
            holdings: knows the identities that instances have.
            lifetime: the lifetime of identities that are issued now.
            clock: tells which identities have ended.
        """
        self._holdings = holdings
        self._lifetime = lifetime
        self._clock = clock
        self._unneeded: set[InstanceGuid] = set()
        self._since: dict[InstanceGuid, float] = {}
        self._log = structlog.get_logger(__name__)

    def amend(self, decision: Decision[Result]) -> Decision[Result]:
        """Return the result of a command with the tombstones that follow from it."""
        return leave_tombstones(decision, self._ends_at)

    @contextmanager
    def unneeded(self, instance: InstanceGuid) -> Iterator[None]:
        """Leave no tombstone if an instance is removed within this context.

        This is for an instance that was registered but whose identity was never handed out: no
        client can prove to be that instance.
        """
        self._unneeded.add(instance)
        try:
            yield
        finally:
            self._unneeded.discard(instance)

    async def run(self, registry: Registry) -> None:
        """Forget the tombstones that are over, until cancelled."""
        while True:
            await self._forget(registry)
            await self._clock.sleep(PERIOD_SECONDS)

    async def _forget(self, registry: Registry) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        guids = (each.instance_guid for each in registry.state.all_tombstones())
        self._since = {guid: self._since.get(guid, monotonic) for guid in guids}
        # A tombstone may be a period old when it is first seen.
        long_ago = monotonic - self._lifetime.total_seconds() + PERIOD_SECONDS
        young = frozenset(guid for guid, at in self._since.items() if at > long_ago)

        def forget(state: State) -> Decision[int]:
            ended = drop_ended_tombstones(state, now, young)
            return ended.then(lambda later, _: drop_drained(later, now))

        if not forget(registry.state).change:
            return
        try:
            await registry.execute(forget)
        except ControlPlaneError as error:
            self._log.warning(log_events.STORE_FAILED, reason=str(error))

    def _ends_at(self, instance: InstanceGuid) -> datetime | None:
        """Return when the last identity of an instance ends; None if none was handed out.

        An identity whose record is not written yet, or was lost, was issued with the present
        lifetime. An identity of an earlier run may have had a longer one.
        """
        if instance in self._unneeded:
            return None
        latest = self._clock.now() + self._lifetime
        known = self._holdings.identity_ends(instance)
        return latest if known is None else max(latest, known)
