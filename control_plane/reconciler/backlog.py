"""Who waits for a plan, in the order in which they began to wait.

The rule of this module: an instance waits once, however often it is marked. Where many wait, or
many come in a short time, it is a crowd; then a second process makes certificates too, and an
instance whose certificates are being made there waits for them and not in the queue. One that
cannot be given to it is planned for here, in its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from control_plane import log_events
from control_plane.ca import Request
from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.issuers import Issued, Issuers, Returned
from control_plane.reconciler.pace import Rush

_SLICE_SECONDS = 0.005
"""How long plans are made before others (streams, commands) have a turn."""

CROWD = 32
"""How many have to wait until the second process is asked: before that it is faster to begin."""

RUSH_SECONDS = 3.0
"""As many that connect in this time are a crowd too, though none of them waits for long."""


class Backlog:
    """The instances that wait."""

    def __init__(self, clock: Clock, issuers: Issuers | None, returned: Returned) -> None:
        """Start with nobody who waits.

        Args:
            clock: times the turns.
            issuers: the second process, if there is one.
            returned: makes a plan with what is taken back from there.
        """
        self._clock = clock
        self._issuers = issuers
        self._returned = returned
        self._waiting: dict[InstanceGuid, None] = {}
        self._given: set[InstanceGuid] = set()
        self._rush = Rush(CROWD, RUSH_SECONDS)
        self._wake = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def __contains__(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance waits."""
        return instance in self._waiting or instance in self._given

    def add(self, instance: InstanceGuid) -> None:
        """Let an instance wait, if it does not already."""
        if instance not in self._given:
            self._waiting[instance] = None
            self._wake.set()

    def drop(self, instance: InstanceGuid) -> None:
        """Let an instance wait no more: its plan is made just now, or it was removed."""
        self._waiting.pop(instance, None)

    def came(self) -> None:
        """Note that another instance connected."""
        self._rush.note(self._clock.monotonic())

    def is_crowd(self) -> bool:
        """Tell whether there are so many that each has to wait for its turn."""
        return len(self._waiting) >= CROWD or self._rush.is_on(self._clock.monotonic())

    async def work(
        self,
        due: Callable[[InstanceGuid], Mapping[str, Request]],
        plan: Callable[[InstanceGuid], None],
    ) -> None:
        """Make the plans of those who wait, in slices, until cancelled.

        Args:
            due: returns the certificates that an instance needs first, by name; what it raises,
                its plan raises too.
            plan: makes its plan; it raises nothing.
        """
        while True:
            await self._wake.wait()
            until = self._clock.monotonic() + _SLICE_SECONDS
            while self._waiting and self._clock.monotonic() < until:
                instance = next(iter(self._waiting))
                is_given = self._give(instance, due)
                self.drop(instance)  # before its plan, in which it may be marked again
                if not is_given:
                    plan(instance)
            if not self._waiting:
                self._wake.clear()
            await asyncio.sleep(0)

    def _give(
        self, instance: InstanceGuid, due: Callable[[InstanceGuid], Mapping[str, Request]]
    ) -> bool:
        """Have the second process make the certificates of one of a crowd; tell whether it does."""
        if self._issuers is None or not self.is_crowd() or not self._issuers.has_room():
            return False
        try:
            requests = due(instance)
        except Exception:  # noqa: BLE001 - its plan fails by it too, and that is told and retried
            return False
        if not requests:
            return False
        try:
            self._issuers.give(instance, requests, self._clock.now())
        except Exception as error:  # noqa: BLE001 - whatever it is, they are made here
            self._log.warning(log_events.ISSUER_FAILED, instance=instance, exc_info=error)
            return False
        self._given.add(instance)
        return True

    def take_back(self, instance: InstanceGuid, issued: Mapping[str, Issued]) -> None:
        """Take an instance back from the second process, with what was issued for it."""
        self._given.discard(instance)
        self._returned(instance, issued)
