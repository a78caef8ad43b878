"""Resolvers that were there before the control plane started, and are away since.

The rule of this module: who is away goes on answering by the names that it had. It is given as long
to come back as the instances themselves are; after that nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.clock import Clock
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.presence import GRACE_AFTER_START_SECONDS
from control_plane.reconciler.progress import Waiters


class Returning:
    """Knows whose resolver has not come back yet."""

    def __init__(self, state: State, clock: Clock) -> None:
        """Expect those of a State that was read from disk just now."""
        self._clock = clock
        self._until = clock.monotonic() + GRACE_AFTER_START_SECONDS
        self._away = {
            each.guid
            for each in state.all_instances()
            if each.has_resolver and each.status is not InstanceStatus.GONE
        }
        self._waiters = Waiters(lambda instance: instance not in self._away)

    def came(self, instance: InstanceGuid) -> None:
        """Wait no longer for an instance: its resolver asked for its names, or it was removed."""
        if instance in self._away:
            self._away.discard(instance)
            self._waiters.note(instance)

    def missing(self, instances: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return those of some instances whose resolvers are still waited for."""
        if not self._away or self._clock.monotonic() >= self._until:
            return ()
        return tuple(each for each in instances if each.guid in self._away)

    async def wait(self, instances: Iterable[Instance]) -> None:
        """Return once the resolvers of some instances are back, or the time is up."""
        missing = self.missing(instances)
        if missing:
            left = self._until - self._clock.monotonic()
            await self._waiters.wait([each.guid for each in missing], left)
