"""Make before break between names and certificates.

The rule of this module: a name never leads to a certificate that lacks it. A new route is resolved
only once every connected instance of its app has ACKed the certificate that has it. It does not
lead to an instance that was away, or late, before that instance has ACKed it too. An unmapped route
stays in the certificates until every resolver has ACKed its removal, and clients that resolved it
just before have connected. Both waits have a bound, and exceeding it is logged. A restart, even
after a kill, does not change any of this (``recovery``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.model.change import Change, removed_instances
from control_plane.model.entities import Instance, InstanceStatus, RouteMapping
from control_plane.model.reach import callers
from control_plane.model.state import State
from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.reconciler.progress import Waiters
from control_plane.reconciler.publication.recovery import Lacking, unmapped
from control_plane.reconciler.publication.returning import Returning
from control_plane.reconciler.publication.uncertified import Uncertified
from control_plane.reconciler.tasks import Tasks
from control_plane.store.protocol import IssuedRecord

PUBLISH_BOUND = 10.0
"""How many seconds a new name waits for the certificates at most."""

WITHDRAW_BOUND = 5.0
"""How many seconds an unmapped name waits for the resolvers at most."""

LINGER_SECONDS = 1.0
"""How long clients that resolved a name just before its removal have to connect (its TTL is 0)."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What publishing has to know about instances, and has to have done with them.

    Attributes:
        connected_of: returns the instances of an app that have a stream.
        streams: returns the streams on which an instance asked for certificates.
        certified: tells whether an instance is connected and has ACKed the certificate that it
            should have; what else it has or refused does not matter, neither here nor for
            ``has_names``.
        resolves: tells whether an instance has a resolver that follows its name table.
        has_names: tells whether that resolver has ACKed the names that it should have, or is not
            connected.
        mark: has the instances of some apps planned for again.
        mark_resolvers: does the same for those of them that have a resolver.
    """

    connected_of: Callable[[AppGuid], Iterable[InstanceGuid]]
    streams: Callable[[InstanceGuid], Iterable[object]]
    certified: Callable[[InstanceGuid], bool]
    resolves: Callable[[InstanceGuid], bool]
    has_names: Callable[[InstanceGuid], bool]
    mark: Callable[[Iterable[AppGuid]], None]
    mark_resolvers: Callable[[Iterable[AppGuid]], None]


class Publication:
    """Knows which routes may be resolved, and which must still be in certificates."""

    def __init__(
        self,
        state: State,
        neighbourhood: Neighbourhood,
        clock: Clock,
        records: Iterable[IssuedRecord] = (),
    ) -> None:
        """Start with the mapped routes published, though not to instances that may lack them.

        Args:
            records: the records of certificates of an earlier run.
        """
        records = tuple(records)
        self._state = state
        self._around = around = neighbourhood
        self._certifying = Waiters(lambda of: around.certified(of) or not around.streams(of))
        self._withdrawing = Waiters(around.has_names)
        self._clock = clock
        self._held_back: dict[AppGuid, set[Hostname]] = {}
        self._lingering: dict[AppGuid, set[Hostname]] = {}
        self._uncertified = Uncertified(state, records, self._tell_resolvers, clock)
        self._kept = unmapped(state, records)
        self._returning = Returning(state, clock)
        self._tasks: Tasks[RouteMapping] = Tasks()
        self._log = structlog.get_logger(__name__)

    def published(self, app: AppGuid) -> tuple[Hostname, ...]:
        """Return the routes of an app that may be resolved."""
        held_back = self._held_back.get(app, ())
        return tuple(name for name in self._state.hostnames_of(app) if name not in held_back)

    def lingering(self, instance: Instance) -> tuple[Hostname, ...]:
        """Return the routes that the app lost but an instance's certificate must still have."""
        of_app = self._lingering.get(instance.app_guid, ())
        return tuple(sorted({*of_app, *self._kept.get(instance.guid, ())}))

    def uncertified(self, app: AppGuid) -> Lacking:
        """Return which published routes must not yet lead to which instances of an app."""
        return self._uncertified.of(app)

    def certified(self, app: AppGuid, instance: InstanceGuid) -> None:
        """Let every route lead to this instance, which has the certificate."""
        self._uncertified.certified(app, instance)

    def told(self, instance: InstanceGuid) -> None:
        """Look again at an instance that got a plan, answered, or lost a stream."""
        self._certifying.note(instance)
        self._withdrawing.note(instance)

    def left(self, instance: InstanceGuid) -> None:
        """Note that an instance's resolver lost its stream; it may come back."""
        known = self._state.instance(instance)
        if known is not None and known.status is not InstanceStatus.GONE:
            self._returning.left(instance)

    def returned(self, instance: InstanceGuid) -> None:
        """Note that an instance's resolver asks for its names."""
        self._returning.came(instance)

    def resume(self) -> None:
        """Go on with names whose removal was under way when the control plane ended."""
        for guid, names in self._kept.items():
            app = self._state.instances[guid].app_guid
            for mapping in (RouteMapping(name, app) for name in names):
                if mapping not in self._tasks:
                    self._tasks.start(mapping, self._withdraw(mapping))

    def awaited(self, apps: Iterable[AppGuid]) -> tuple[Instance, ...]:
        """Return the instances whose resolvers, being away, keep unmapped names in certificates."""
        wanted = frozenset(apps)
        losing = {
            of.app_guid
            for of, _ in self._tasks.items()
            if of.app_guid in wanted and of.hostname not in self._state.hostnames_of(of.app_guid)
        }
        return tuple(each for app in losing for each in self._returning.missing(self._led(app)))

    def under_way(self, apps: Iterable[AppGuid]) -> tuple[asyncio.Task[None], ...]:
        """Return the tasks that publish or remove names of some apps."""
        wanted = frozenset(apps)
        return tuple(task for of, task in self._tasks.items() if of.app_guid in wanted)

    def committed(self, state: State, change: Change) -> None:
        """Look at the routes that a change maps or unmaps."""
        self._state = state
        for entity in change.drops:
            if isinstance(entity, RouteMapping):
                self._unmapped(entity)
        for instance in removed_instances(state, change):
            self._uncertified.discard(instance.app_guid, [instance.guid])
            self._returning.came(instance.guid)
            self._kept.pop(instance.guid, None)
        for entity in change.puts:
            if isinstance(entity, RouteMapping):
                self._mapped(entity)
            elif isinstance(entity, Instance) and entity.status is InstanceStatus.GONE:
                self._returning.came(entity.guid)

    async def close(self) -> None:
        """Stop everything that is under way."""
        await self._tasks.close()
        await self._uncertified.close()

    def _mapped(self, mapping: RouteMapping) -> None:
        _take(self._lingering, mapping)
        _put(self._held_back, mapping)
        self._tasks.start(mapping, self._publish(mapping))

    def _unmapped(self, mapping: RouteMapping) -> None:
        _take(self._held_back, mapping)
        self._uncertified.unmapped(mapping.app_guid, mapping.hostname)
        if self._state.app(mapping.app_guid) is None:
            self._tasks.stop(mapping)
            _take(self._lingering, mapping)
        else:
            _put(self._lingering, mapping)
            self._tasks.start(mapping, self._withdraw(mapping))

    async def _publish(self, mapping: RouteMapping) -> None:
        app, name = mapping.app_guid, mapping.hostname
        around = self._around
        there = {each: frozenset(around.streams(each)) for each in around.connected_of(app)}
        late = await self._certifying.wait(there, PUBLISH_BOUND)
        # Meanwhile a connected instance may have left without an ACK, and an absent one may have
        # come back and ACKed. An instance that is not ready counts too: if no certificate can be
        # issued, it may become ready with its old one. An instance that never connected has none.
        stayed = {
            each
            for each, streams in there.items()
            if each not in late and streams and streams.issubset(around.streams(each))
        }
        lacking = {
            each.guid
            for each in self._state.instances_of(app)
            if (each.status is not InstanceStatus.REGISTERED or each.guid in late)
            and each.guid not in stayed
            and not around.certified(each.guid)
        }
        self._uncertified.add(app, name, lacking)
        _take(self._held_back, mapping)
        self._tell_resolvers(app)
        self._log.info(log_events.NAME_PUBLISHED, app=app, name=name, behind=sorted(late))

    def _tell_resolvers(self, app: AppGuid) -> None:
        self._around.mark_resolvers(callers(self._state, app))

    async def _withdraw(self, mapping: RouteMapping) -> None:
        app, name = mapping.app_guid, mapping.hostname
        await self._returning.wait(self._led(app))
        resolvers = [
            instance
            for caller in callers(self._state, app)
            for instance in self._around.connected_of(caller)
            if self._around.resolves(instance)
        ]
        if resolvers:
            late = await self._withdrawing.wait(resolvers, WITHDRAW_BOUND)
            # That wait leaves out resolvers that lost their stream meanwhile and still answer the
            # name.
            if left := [each.guid for each in self._returning.missing(self._led(app))]:
                await self._returning.wait(self._led(app))
                late |= await self._withdrawing.wait(left, WITHDRAW_BOUND)
            self._log.info(log_events.NAME_WITHDRAWN, app=app, name=name, behind=sorted(late))
            await self._clock.sleep(LINGER_SECONDS)
        _take(self._lingering, mapping)
        for each in self._state.instances_of(app):
            if name in self._kept.get(each.guid, ()):
                self._kept[each.guid] -= {name}
        self._around.mark([app])

    def _led(self, app: AppGuid) -> Iterator[Instance]:
        """Yield the instances whose resolvers may answer the names of an app."""
        for caller in callers(self._state, app):
            yield from self._state.instances_of(caller)


def _put(names: dict[AppGuid, set[Hostname]], mapping: RouteMapping) -> None:
    names.setdefault(mapping.app_guid, set()).add(mapping.hostname)


def _take(names: dict[AppGuid, set[Hostname]], mapping: RouteMapping) -> None:
    of_app = names.get(mapping.app_guid, set())
    of_app.discard(mapping.hostname)
    if not of_app:
        names.pop(mapping.app_guid, None)
