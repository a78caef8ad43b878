"""Which instances wait for a plan, in the order in which they began to wait.

The rule of this module: an instance waits once, however often it is marked. If many wait, or many
connect in a short time, they are a crowd. Then a second process issues certificates too, and an
instance whose certificates are being issued there waits for them instead of in the queue. An
instance that cannot be given to the second process is planned for here, when its turn comes.
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
"""For how long plans are made before others (streams, commands) have a turn."""

CROWD = 32
"""How many instances have to wait before the second process is asked; with fewer it is faster to
begin here."""

RUSH_SECONDS = 3.0
"""The same number that connect within this time are a crowd too, even if none of them waits
long."""


class Backlog:
    """The instances that wait."""

    def __init__(self, clock: Clock, issuers: Issuers | None, returned: Returned) -> None:
        """Start with no instance waiting.

        Args:
            clock: times the slices.
            issuers: the second process, if there is one.
            returned: makes a plan for an instance that the second process returned.
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
        """Let an instance wait, if it does not wait already."""
        if instance not in self._given:
            self._waiting[instance] = None
            self._wake.set()

    def drop(self, instance: InstanceGuid) -> None:
        """Let an instance wait no longer: its plan is being made, or it was removed."""
        self._waiting.pop(instance, None)

    def came(self) -> None:
        """Note that another instance connected."""
        self._rush.note(self._clock.monotonic())

    def is_crowd(self) -> bool:
        """Tell whether there are so many instances that each has to wait its turn."""
        return len(self._waiting) >= CROWD or self._rush.is_on(self._clock.monotonic())

    async def work(
        self,
        due: Callable[[InstanceGuid], Mapping[str, Request]],
        plan: Callable[[InstanceGuid], None],
    ) -> None:
        """Make the plans of the waiting instances, in slices, until cancelled.

        Args:
            due: returns the certificates that an instance needs first, by name; if it raises,
                making the plan raises the same.
            plan: makes the plan of an instance; it raises nothing.
        """
        while True:
            await self._wake.wait()
            until = self._clock.monotonic() + _SLICE_SECONDS
            while self._waiting and self._clock.monotonic() < until:
                instance = next(iter(self._waiting))
                is_given = self._give(instance, due)
                self.drop(instance)  # before it is planned for, which may mark it again
                if not is_given:
                    plan(instance)
            if not self._waiting:
                self._wake.clear()
            await asyncio.sleep(0)

    def _give(
        self, instance: InstanceGuid, due: Callable[[InstanceGuid], Mapping[str, Request]]
    ) -> bool:
        """In a crowd, give an instance to the second process; tell whether that took it."""
        if self._issuers is None or not self.is_crowd() or not self._issuers.has_room():
            return False
        try:
            requests = due(instance)
        except Exception:  # noqa: BLE001 - its plan fails too, which is reported and retried
            return False
        if not requests:
            return False
        try:
            self._issuers.give(instance, requests, self._clock.now())
        except Exception as error:  # noqa: BLE001 - whatever it is, they are issued here
            self._log.warning(log_events.ISSUER_FAILED, instance=instance, exc_info=error)
            return False
        self._given.add(instance)
        return True

    def take_back(self, instance: InstanceGuid, issued: Mapping[str, Issued]) -> None:
        """Take an instance back from the second process, with the certificates issued for it."""
        self._given.discard(instance)
        self._returned(instance, issued)
