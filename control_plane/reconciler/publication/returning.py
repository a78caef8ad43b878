"""Resolvers that are away: since the control plane started, or since they lost their stream.

The rule of this module: a resolver that is away goes on answering with the names that it had. It
has as long to come back as instances have; after that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.clock import Clock
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership.absences import GRACE_AFTER_START_SECONDS, GRACE_SECONDS
from control_plane.reconciler.progress import Waiters


class Returning:
    """Knows which instances' resolvers have not come back yet."""

    def __init__(self, state: State, clock: Clock) -> None:
        """Expect the resolvers in a State that was just read from disk."""
        self._clock = clock
        until = clock.monotonic() + GRACE_AFTER_START_SECONDS
        self._away = {
            each.guid: until
            for each in state.all_instances()
            if each.has_resolver and each.status is not InstanceStatus.GONE
        }
        self._waiters = Waiters(lambda instance: instance not in self._away)

    def left(self, instance: InstanceGuid) -> None:
        """Expect back an instance's resolver that lost its connection."""
        self._away[instance] = self._clock.monotonic() + GRACE_SECONDS

    def came(self, instance: InstanceGuid) -> None:
        """Stop waiting for an instance: its resolver asked for its names, or it is gone."""
        if self._away.pop(instance, None) is not None:
            self._waiters.note(instance)

    def missing(self, instances: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return those of these instances whose resolvers are still waited for."""
        if not self._away:
            return ()
        now = self._clock.monotonic()
        return tuple(each for each in instances if self._away.get(each.guid, now) > now)

    async def wait(self, instances: Iterable[Instance]) -> None:
        """Return once the resolvers of these instances are back, or their time is up."""
        missing = [each.guid for each in self.missing(instances)]
        if missing:
            until = max(self._away[each] for each in missing)
            await self._waiters.wait(missing, until - self._clock.monotonic())
