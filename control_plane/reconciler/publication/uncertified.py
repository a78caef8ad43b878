"""Which names must not lead to which instances yet, because their certificates may lack them.

The rule of this module: a name leads to such an instance once it has ACKed its certificate. Each
time that happens, the resolver of every caller gets another name table. Of a large app, hundreds of
instances come back within a second, so instances of an app that follow soon after another one are
let in together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

from rpds import HashTrieMap

from control_plane.clock import Clock
from control_plane.model.state import State
from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.reconciler.publication.recovery import Lacking, uncertified
from control_plane.reconciler.tasks import Tasks
from control_plane.store.protocol import IssuedRecord

TOGETHER_SECONDS = 1.0
"""How long an instance that has its certificate may wait for other instances of its app."""

_NOBODY: Lacking = HashTrieMap()


class Uncertified:
    """The instances of each app to which not all names of the app lead."""

    def __init__(
        self,
        state: State,
        records: Iterable[IssuedRecord],
        changed: Callable[[AppGuid], None],
        clock: Clock,
    ) -> None:
        """Start with what follows from the disk.

        Args:
            records: the records of certificates of an earlier run.
            changed: is called with an app whose names now lead to more instances.
        """
        self._by_app = uncertified(state, records)
        self._changed = changed
        self._clock = clock
        self._came: dict[AppGuid, set[InstanceGuid]] = {}
        self._gathering: Tasks[AppGuid] = Tasks()

    def of(self, app: AppGuid) -> Lacking:
        """Return which names of an app must not lead to which of its instances yet."""
        return self._by_app.get(app, _NOBODY)

    def add(self, app: AppGuid, name: Hostname, instances: Iterable[InstanceGuid]) -> None:
        """Let a name lead to none of these instances before they have their certificates."""
        lacking, came = self.of(app), self._came.get(app, set())
        for each in instances:
            lacking = lacking.insert(each, lacking.get(each, frozenset()) | {name})
            came.discard(each)  # the certificate that it has lacks this name
        self._set(app, lacking)

    def certified(self, app: AppGuid, instance: InstanceGuid) -> None:
        """Let every name lead to this instance, which has its certificate, now or in a moment."""
        if instance not in self.of(app):
            return
        if app in self._came:
            self._came[app].add(instance)
            return
        self._let_in(app, [instance])
        came = self._came[app] = set()
        self._gathering.start(app, self._gather(app, came))

    def unmapped(self, app: AppGuid, name: Hostname) -> None:
        """Forget a name that an app lost."""
        lacking = self.of(app)
        for instance, names in lacking.items():
            if name in names:
                left = names - {name}
                lacking = lacking.insert(instance, left) if left else lacking.discard(instance)
        self._set(app, lacking)

    def discard(self, app: AppGuid, instances: Iterable[InstanceGuid]) -> None:
        """Forget instances to which every name leads now, or which were removed."""
        self._set(app, reduce(HashTrieMap.discard, instances, self.of(app)))

    async def close(self) -> None:
        """Stop waiting for further instances."""
        await self._gathering.close()

    def _set(self, app: AppGuid, lacking: Lacking) -> None:
        if lacking:
            self._by_app[app] = lacking
        else:
            self._by_app.pop(app, None)

    def _let_in(self, app: AppGuid, instances: Iterable[InstanceGuid]) -> None:
        self.discard(app, instances)
        self._changed(app)

    async def _gather(self, app: AppGuid, came: set[InstanceGuid]) -> None:
        """Let in together the instances that come within a pause, until none comes in one."""
        try:
            await self._clock.sleep(TOGETHER_SECONDS)
            while came:
                self._let_in(app, came)
                came.clear()
                await self._clock.sleep(TOGETHER_SECONDS)
        finally:
            del self._came[app]
