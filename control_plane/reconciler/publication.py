"""Make before break between names and certificates.

The rule of this module: nobody is ever led by a name to a certificate that lacks it. A new route is
resolved only once every connected instance of its app ACKed the certificate that has it; a route
that was unmapped stays in the certificates until every resolver ACKed that it is gone, and those
who asked just before have connected. Both waits have a bound, and passing it is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.model.change import Change
from control_plane.model.entities import RouteMapping
from control_plane.model.reach import callers
from control_plane.model.state import State
from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.reconciler.progress import Waiters

PUBLISH_BOUND = 10.0
"""Seconds that a new name waits for the certificates at the most."""

WITHDRAW_BOUND = 5.0
"""Seconds that an unmapped name waits for the resolvers at the most."""

LINGER_SECONDS = 1.0
"""How long after a name is gone those who just resolved it may take to connect (its TTL is 0)."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What publishing asks about instances.

    Attributes:
        connected: tells which of an app's instances have a stream.
        resolves: tells whether an instance has a resolver that follows its name table.
        mark: has the instances of some apps looked at again.
    """

    connected: Callable[[AppGuid], Iterable[InstanceGuid]]
    resolves: Callable[[InstanceGuid], bool]
    mark: Callable[[Iterable[AppGuid]], None]


class Publication:
    """Knows which routes may be resolved, and which must still be in certificates."""

    def __init__(
        self, state: State, waiters: Waiters, neighbourhood: Neighbourhood, clock: Clock
    ) -> None:
        """Take all that is mapped as published: after a restart nothing is withdrawn."""
        self._state = state
        self._waiters = waiters
        self._around = neighbourhood
        self._clock = clock
        self._held_back: dict[AppGuid, set[Hostname]] = {}
        self._lingering: dict[AppGuid, set[Hostname]] = {}
        self._tasks: dict[asyncio.Task[None], AppGuid] = {}
        self._log = structlog.get_logger(__name__)

    def published(self, app: AppGuid) -> tuple[Hostname, ...]:
        """Return the routes of an app that may be resolved."""
        held_back = self._held_back.get(app, ())
        return tuple(name for name in self._state.hostnames_of(app) if name not in held_back)

    def lingering(self, app: AppGuid) -> tuple[Hostname, ...]:
        """Return the routes that an app no longer has, and its certificates still must."""
        return tuple(sorted(self._lingering.get(app, ())))

    def under_way(self, apps: Iterable[AppGuid]) -> tuple[asyncio.Task[None], ...]:
        """Return what has still to happen to the names of some apps."""
        wanted = frozenset(apps)
        return tuple(task for task, app in self._tasks.items() if app in wanted)

    def committed(self, state: State, change: Change) -> None:
        """Look at the routes that a change maps and unmaps."""
        self._state = state
        for entity in change.drops:
            if isinstance(entity, RouteMapping) and state.app(entity.app_guid) is not None:
                self._lingering.setdefault(entity.app_guid, set()).add(entity.hostname)
                self._start(self._withdraw(entity), entity.app_guid)
        for entity in change.puts:
            if isinstance(entity, RouteMapping):
                self._lingering.get(entity.app_guid, set()).discard(entity.hostname)
                self._held_back.setdefault(entity.app_guid, set()).add(entity.hostname)
                self._start(self._publish(entity), entity.app_guid)

    async def close(self) -> None:
        """Stop whatever is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], app: AppGuid) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = app
        task.add_done_callback(self._tasks.pop)

    async def _publish(self, mapping: RouteMapping) -> None:
        app, name = mapping.app_guid, mapping.hostname
        late = await self._waiters.wait(self._around.connected(app), PUBLISH_BOUND)
        self._held_back.get(app, set()).discard(name)
        if name in self._state.hostnames_of(app):
            self._around.mark(callers(self._state, app))
            self._log.info(log_events.NAME_PUBLISHED, app=app, name=name, behind=sorted(late))

    async def _withdraw(self, mapping: RouteMapping) -> None:
        app, name = mapping.app_guid, mapping.hostname
        resolvers = [
            instance
            for caller in callers(self._state, app)
            for instance in self._around.connected(caller)
            if self._around.resolves(instance)
        ]
        if resolvers:
            late = await self._waiters.wait(resolvers, WITHDRAW_BOUND)
            self._log.info(log_events.NAME_WITHDRAWN, app=app, name=name, behind=sorted(late))
            await self._clock.sleep(LINGER_SECONDS)
        self._lingering.get(app, set()).discard(name)
        self._around.mark([app])
