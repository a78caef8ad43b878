"""How long changes take to reach all instances.

The rule of this module: a change is followed from its commit until every connected instance that it
concerns has ACKed what follows from it, and then until each of these instances serves its
certificate. The change is identified by its revision, which is in the response to its call, so one
number leads from the call to the last ACK. What is not known when the control plane stops is not
logged. Instances that come and go are not changes, and neither is forgetting what was kept of
removed ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Protocol

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.model.change import Change
from control_plane.model.entities import Draining, Entity, Instance, Tombstone
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.progress import Behind, Stage

BOUND_SECONDS = 60.0
"""How long a change is followed at most."""

NAMED_AT_MOST = 10
"""How many of the instances that are behind are named in the log."""


class Progress(Protocol):
    """Knows how far a change has got."""

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Wait for a stage, as ``Convergence`` does."""


class Serving(Protocol):
    """Knows which instances serve their newest certificates."""

    async def served(
        self, instances: frozenset[InstanceGuid], timeout: float
    ) -> frozenset[InstanceGuid]:
        """Wait until all of these do, as ``Proof`` does."""


Observer = Callable[[Stage, int, float, int], None]
"""Called with the stage that a change reached, its revision, the seconds since its commit, and how
many instances were still behind when the time was up."""


class ChangeTrace:
    """Follows changes; subscribes to the registry."""

    def __init__(
        self,
        state: State,
        revision: Callable[[], int],
        progress: Progress,
        serving: Serving,
        clock: Clock,
    ) -> None:
        """Follow everything that is committed after this State.

        Args:
            revision: returns the revision of the newest State.
        """
        self._state = state
        self._revision = revision
        self._progress = progress
        self._serving = serving
        self._clock = clock
        self._observers: list[Observer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._log = structlog.get_logger(__name__)

    def observe(self, observer: Observer) -> None:
        """Call an observer for each stage that a change reaches, or does not reach in time."""
        self._observers.append(observer)

    def committed(self, state: State, change: Change) -> None:
        """Follow a change; has to be called after the reconciler was told of it."""
        before, self._state = self._state, state
        dropped = [each for each in change.drops if not isinstance(each, Tombstone | Draining)]
        if self._is_over:
            return
        if dropped or not all(_is_status_only(entity, before) for entity in change.puts):
            self._start(self._follow(change.apps, self._revision(), self._clock.monotonic()))

    async def close(self) -> None:
        """Stop following, and follow no further changes; to be called before streams end."""
        self._is_over = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, apps: frozenset[AppGuid], revision: int, since: float) -> None:
        instances = frozenset(each.guid for app in apps for each in self._state.instances_of(app))
        behind = await self._progress.wait(apps, Stage.ACKED, BOUND_SECONDS)
        self._reached(Stage.ACKED, revision, since, [each.instance_guid for each in behind])
        if not behind:
            late = await self._serving.served(instances, BOUND_SECONDS)
            self._reached(Stage.SERVED, revision, since, late)

    def _reached(
        self, stage: Stage, revision: int, since: float, behind: Collection[InstanceGuid]
    ) -> None:
        seconds = self._clock.monotonic() - since
        event = log_events.CHANGE_SERVED if stage is Stage.SERVED else log_events.CHANGE_ACKED
        log = self._log.warning if behind else self._log.info
        # It will be too late to ask which instances these were when the log is read.
        named = {"instances": sorted(behind)[:NAMED_AT_MOST]} if behind else {}
        log(event, revision=revision, seconds=round(seconds, 6), behind=len(behind), **named)
        for observer in self._observers:
            observer(stage, revision, seconds, len(behind))


def _is_status_only(entity: Entity, before: State) -> bool:
    """Tell whether an instance only came or went, and is otherwise unchanged."""
    if not isinstance(entity, Instance):
        return False
    old = before.instance(entity.guid)
    return old is not None and (old.address, old.app_address) == (
        entity.address,
        entity.app_address,
    )
