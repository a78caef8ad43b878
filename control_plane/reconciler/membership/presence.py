"""Which instances are there: keeps the status of each, from its streams and its sidecar's word.

The rule of this module: an instance that says that it leaves is gone at once; one whose Envoy's
streams just break is given time to come back (``absences``). The stream of a resolver says nothing
about the Envoy beside it; only the fact that the instance has a resolver is remembered.

A sidecar's word holds until its next one, whatever the Envoy does meanwhile: an Envoy that drains
opens new streams too. The status is part of the State, and so is whether there is a sidecar. Thus a
word outlives a restart: after it, names do not lead to an instance that left, or whose app does not
listen, before its sidecar says otherwise (``status``). If the word of a sidecar changes all the
time, only the newest is written, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from control_plane import log_events
from control_plane.errors import ControlPlaneError
from control_plane.model.change import Change, removed_instances
from control_plane.model.entities import App, Instance, InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream, Nodes, StreamObserver
from control_plane.planner import NAME_TABLE_TYPE
from control_plane.reconciler.membership.absences import Absences
from control_plane.reconciler.membership.serving import can_serve
from control_plane.reconciler.membership.status import Sight, Word, status_of
from control_plane.registry import Registry
from control_plane.xds.events import Event

RETRY_SECONDS = 1.0
"""How long after a status could not be written, or changed too often, the next attempt is made."""

WORDS_PER_SECOND = 1.0
"""How often the word of one sidecar may change in the long run: each change, once on disk, is sent
to all neighbours of the instance."""

WORDS_AT_ONCE = 10
"""How often it may change in quick succession: an app may start, fail and be started again."""


class Presence(StreamObserver):
    """Keeps the status of each instance; observes streams."""

    def __init__(
        self,
        registry: Registry,
        nodes: Nodes,
        has_turn: Callable[[InstanceGuid], bool] = lambda _: True,
        awaits_plan: Callable[[InstanceGuid], bool] = lambda _: False,
    ) -> None:
        """Keep the status of the instances in this registry.

        Args:
            has_turn: tells whether the changed word of an instance may be written at once, and
                counts the call; if not, the newest word is written later.
            awaits_plan: tells whether the plan of an instance is outdated; its Envoy may then have
                all of the plan and still lack what it should have.
        """
        self._registry = registry
        self._has_turn = has_turn
        self._awaits_plan = awaits_plan
        self._state = registry.state
        self._nodes = nodes
        self._envoys: set[LiveStream] = set()
        self._serving: set[LiveStream] = set()
        self._words: dict[InstanceGuid, Word] = {}
        self._retries: dict[InstanceGuid, asyncio.TimerHandle] = {}
        self._changed: asyncio.Queue[InstanceGuid] = asyncio.Queue()
        self._absences = Absences(lambda: bool(self._envoys), self._changed.put_nowait)
        self._log = structlog.get_logger(__name__)
        registry.subscribe(self._committed)

    async def run(self) -> None:
        """Write changes of status until cancelled."""
        for instance in self._registry.state.all_instances():
            if instance.status.is_there and not self._envoys_of(instance.guid):
                self._absences.expected(instance.guid)
        while True:
            changed = {await self._changed.get(): None}
            while not self._changed.empty():
                changed[self._changed.get_nowait()] = None
            # Together, so that the registry writes them in one transaction.
            await asyncio.gather(*(self._write(instance) for instance in changed))

    def told(self, live: LiveStream, _events: Sequence[Event]) -> None:
        """Note that an Envoy came, or came back, and when it has all that it needs to serve."""
        instance = InstanceGuid(live.node_id)
        if NAME_TABLE_TYPE in live.stream.machines:
            known = self._registry.state.instance(instance)
            if known is not None and not known.has_resolver:
                self._changed.put_nowait(instance)
            return
        if live not in self._envoys:
            self._absences.came(instance)
            self._envoys.add(live)
            self._changed.put_nowait(instance)
        self._look(instance)

    def planned(self, instance: InstanceGuid) -> None:
        """Look at an instance that has a new plan: its Envoy may have all of it already."""
        self._look(instance)

    def closed(self, live: LiveStream) -> None:
        """Give an instance whose last Envoy stream closed time to come back."""
        self._serving.discard(live)
        if live not in self._envoys:
            return
        self._envoys.discard(live)
        instance = InstanceGuid(live.node_id)
        self._look(instance)  # a dead stream may have kept the others from counting as serving
        self._miss(instance)

    def reported(self, instance: InstanceGuid, word: Word) -> None:
        """Take what a sidecar says about its instance."""
        known = self._registry.state.instance(instance)
        if word.leaving:
            self._absences.forget(instance)
        elif known is not None and word.says_healthy(self._registry.state.apps[known.app_guid]):
            self._absences.spoke(instance)
        if self._words.get(instance) != word:
            self._words[instance] = word
            if instance not in self._retries and self._has_turn(instance):
                self._changed.put_nowait(instance)
            else:
                self._write_later(instance)

    def is_awaited(self, guid: InstanceGuid) -> bool:
        """Tell whether an instance is there, or is away but not for long enough to be gone."""
        word = self._words.get(guid)
        if not self._absences.keeps_place(guid) or (word is not None and word.leaving):
            return False
        instance = self._registry.state.instance(guid)
        return instance is not None and instance.status.is_there

    def word(self, guid: InstanceGuid) -> Word | None:
        """Return what the sidecar of an instance said last; None if it has said nothing."""
        return self._words.get(guid)

    def alarm(self) -> str:
        """Return what the absence of all instances means; "" if one is there."""
        return self._absences.alarm

    def hold(self) -> None:
        """Let no instance count as gone any more: streams end because the control plane stops."""
        self._absences.hold()

    def _envoys_of(self, instance: InstanceGuid) -> tuple[LiveStream, ...]:
        streams = self._nodes.streams(instance)
        return tuple(live for live in streams if live in self._envoys)

    def _miss(self, guid: InstanceGuid) -> None:
        """Wait for an instance whose Envoy is away, unless the instance left or was removed."""
        instance, word = self._registry.state.instance(guid), self._words.get(guid)
        if instance is None or not instance.status.is_there or self._envoys_of(guid):
            return
        if word is None or not word.leaving:
            self._absences.left(guid)

    def _look(self, instance: InstanceGuid) -> None:
        """Note whether the Envoy of an instance has all that it needs to serve."""
        waiting = [live for live in self._envoys_of(instance) if live not in self._serving]
        if waiting and self._can_serve(instance):
            self._serving.update(waiting)
            self._changed.put_nowait(instance)

    def _can_serve(self, instance: InstanceGuid) -> bool:
        """Tell whether an Envoy has its certificate and all else that callers need of it."""
        if self._awaits_plan(instance):
            return False
        snapshot, known = self._nodes.snapshot(instance), self._registry.state.instance(instance)
        if snapshot is None or known is None:
            return False
        streams = (live.stream for live in self._envoys_of(instance))
        return can_serve(streams, snapshot, self._registry.state.apps[known.app_guid])

    def _committed(self, state: State, change: Change) -> None:
        before, self._state = self._state, state
        for instance in removed_instances(state, change):
            self._forget(instance.guid)
        for entity in change.puts:
            if isinstance(entity, App):
                self._app_changed(before.app(entity.guid), entity)
            if not isinstance(entity, Instance):
                continue
            old = before.instance(entity.guid)
            if old is not None and old.address != entity.address:
                # What its Envoy ACKed was made for the old address.
                self._serving.difference_update(self._nodes.streams(entity.guid))
            if old is not None and not old.status.is_there:
                # Its streams may have broken while the status was being written.
                self._miss(entity.guid)
            if entity.status is InstanceStatus.REGISTERED:
                # An instance that was removed and registered again may still be connected; then no
                # stream opens.
                self._changed.put_nowait(entity.guid)

    def _app_changed(self, before: App | None, app: App) -> None:
        """Look again at the instances of an app whose health check changed."""
        if before is not None and before.health_check_type is not app.health_check_type:
            for instance in self._state.instances_of(app.guid):
                self._changed.put_nowait(instance.guid)

    async def _write(self, guid: InstanceGuid) -> None:
        instance = self._registry.state.instance(guid)
        if instance is None:
            self._forget(guid)
            return
        status, streams = self._status(instance), self._nodes.streams(guid)
        command = partial(
            set_status,
            guid=guid,
            status=status,
            has_sidecar=guid in self._words,
            has_resolver=any(NAME_TABLE_TYPE in live.stream.machines for live in streams),
        )
        if not command(self._registry.state).change:
            return
        try:
            written = await self._registry.execute(command)
        except ControlPlaneError as error:
            self._log.error(log_events.STORE_FAILED, instance=guid, reason=str(error))
            self._write_later(guid)
            return
        # Nothing was written if the instance was removed while this waited for its turn.
        if status is instance.status or not written.change:
            return
        event = {
            InstanceStatus.READY: log_events.INSTANCE_READY,
            InstanceStatus.GONE: log_events.INSTANCE_GONE,
        }.get(status, log_events.INSTANCE_CONNECTED)
        self._log.info(event, instance=guid, app=instance.app_guid, status=status.value)

    def _write_later(self, guid: InstanceGuid) -> None:
        """Have the status written after a pause, once for all changes until then."""
        if guid not in self._retries:
            loop = asyncio.get_running_loop()
            self._retries[guid] = loop.call_later(RETRY_SECONDS, self._write_again, guid)

    def _write_again(self, guid: InstanceGuid) -> None:
        del self._retries[guid]
        self._has_turn(guid)  # counts this turn
        self._changed.put_nowait(guid)

    def _status(self, instance: Instance) -> InstanceStatus:
        guid, app = instance.guid, self._registry.state.apps[instance.app_guid]
        envoys = self._envoys_of(guid)
        sight = Sight(
            connected=bool(envoys),
            can_serve=any(live in self._serving for live in envoys),
            overdue=self._absences.is_overdue(guid),
        )
        return status_of(instance, app, self._words.get(guid), sight)

    def _forget(self, instance: InstanceGuid) -> None:
        self._words.pop(instance, None)
        self._absences.forget(instance)
        self._serving.difference_update(self._nodes.streams(instance))
        timer = self._retries.pop(instance, None)
        if timer is not None:
            timer.cancel()
