"""The loop that brings every connected node to its plan.

The rule of this module: it is level-triggered. A change only marks the instances that it concerns.
What each of them should have is worked out from the State at the moment when its turn comes, so
changes that come faster than that merge by themselves. An instance that is not connected costs
nothing. An instance that cannot be planned for is retried, and does not keep others waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import structlog

from control_plane import log_events
from control_plane.ca import Request
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError
from control_plane.model.change import Change, departed, removed_instances
from control_plane.model.entities import App, Tombstone
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.nodes import LiveStream, Nodes, StreamObserver
from control_plane.planner import NAME_TABLE_TYPE, Planner
from control_plane.reconciler.backlog import Backlog
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.certificates.due import Certificates
from control_plane.reconciler.certificates.foresight import Foresight
from control_plane.reconciler.certificates.issuers import Issued, Issuers
from control_plane.reconciler.certificates.renewals import RETRY, RenewalQueue
from control_plane.reconciler.certificates.renewing import Renewing
from control_plane.reconciler.connected import ConnectedInstances
from control_plane.reconciler.draining import Draining
from control_plane.reconciler.membership.farewells import Farewells
from control_plane.reconciler.pace import CERTIFICATES_PER_SECOND, turn
from control_plane.reconciler.progress import Waiters
from control_plane.reconciler.publication.names import Neighbourhood, Publication
from control_plane.reconciler.standing import Standing
from control_plane.xds.events import Event, Subscribed


class Reconciler(StreamObserver):
    """Keeps every connected node's snapshot equal to its plan; observes streams and commits.

    Attributes:
        state: the newest State; plans follow from it.
        standing: how far each instance is behind its plan, and why.
        waiters: the waits for instances to have what they should.
        farewells: tells removed instances that they were removed.
        publication: which names may be resolved, and which are still in certificates.
        foresight: issues certificates ahead for changes that the registry is writing.
    """

    def __init__(
        self,
        state: State,
        nodes: Nodes,
        planner: Planner,
        custody: Custody,
        clock: Clock,
        issuers: Issuers | None = None,
    ) -> None:
        """Start from the State as it was read from disk, with no instance connected.

        Args:
            issuers: the second process, which issues certificates too when many are due.
        """
        self._nodes = nodes
        self._planner = planner
        self._custody = custody
        self._clock = clock
        self._issuers = issuers
        self._backlog = Backlog(clock, issuers, self._returned)
        self._renewals = RenewalQueue()
        self._draining = Draining(state.all_draining(), clock)
        self._log = structlog.get_logger(__name__)
        self._on_clock_jump: list[Callable[[], None]] = []
        self._on_plan: list[Callable[[InstanceGuid], None]] = []
        self.state = state
        self._connected = ConnectedInstances(nodes, lambda: self.state)
        self.standing = Standing(nodes, custody, self._backlog)
        self.waiters = Waiters(self.standing.is_current)
        self.farewells = Farewells(nodes, planner, clock)
        around = Neighbourhood(
            self._connected.of,
            self._connected.secret_streams,
            self.standing.is_certified,
            self._connected.resolves,
            self.standing.has_names,
            self._mark_apps,
            self._mark_resolvers,
        )
        self.publication = Publication(state, around, clock, custody.recorded())
        self._certificates = Certificates(
            custody, self._renewals, self.publication.lingering, clock
        )
        self.foresight = Foresight(
            self._certificates, self._connected, self._backlog.is_crowd, clock
        )

    def committed(self, state: State, change: Change) -> None:
        """Mark the instances that a change concerns, and take leave of those that it removed."""
        self._draining.committed(change.puts)
        self.state = state
        for entity in change.drops:
            if isinstance(entity, Tombstone):
                self.farewells.forget(entity, state.instance(entity.instance_guid))
            elif isinstance(entity, App):
                self._planner.forget_app(entity.guid)
        for instance in removed_instances(state, change):
            self._see_off(instance.guid)
        for guid in departed(state, change):
            self.waiters.note(guid)  # so that no wait goes on for it to be back
        self._mark_apps(change.apps)
        self.publication.committed(state, change)

    def on_clock_jump(self, callback: Callable[[], None]) -> None:
        """Call this whenever the clock is set."""
        self._on_clock_jump.append(callback)

    def on_plan(self, callback: Callable[[InstanceGuid], None]) -> None:
        """Call this whenever an instance has been planned for."""
        self._on_plan.append(callback)

    def authority_changed(self, since: datetime) -> None:
        """Have every instance's certificates looked at, each at its own turn.

        Args:
            since: when the CA, or what is sent of it, changed.
        """
        known = len(self.state.instances)
        for each in self._connected.everybody():
            at = turn(each, since, known, per_second=CERTIFICATES_PER_SECOND)
            self._renewals.add(each, at)

    def may_return(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance without a stream may come back before it counts as gone."""
        known = self.state.instance(instance)
        return known is not None and known.status.is_there

    def is_connected(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a stream."""
        return self._connected.has(instance)

    def opened(self, live: LiveStream) -> None:
        """Plan for a node as soon as it connects, so that its first request finds an answer.

        In a crowd it waits for its turn. Nothing is sent before there is a plan: an instance that
        was away was not planned for, so its old snapshot may admit a caller, or show a certificate,
        of the past.
        """
        instance = InstanceGuid(live.node_id)
        if self.state.tombstone(instance) is not None:
            self.farewells.opened(live)
            return
        if len(self._nodes.streams(instance)) == 1:
            self._nodes.withhold(instance)
        self._backlog.came()
        if self._backlog.is_crowd():
            self._backlog.add(instance)
        else:
            self._try(instance)

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Have made anew what a client lacks, and wake the waits that its request concerns."""
        instance = InstanceGuid(live.node_id)
        self.farewells.told(live)
        if any(
            isinstance(each, Subscribed) and each.type_url == NAME_TABLE_TYPE for each in events
        ):
            # A plan has names only if the instance has a resolver. Even in a crowd the instance has
            # its turn now, since certificates keep unmapped names until resolvers are back.
            self._try(instance)
            self.publication.returned(instance)
        self._make_anew(live)
        self._note(instance)

    def closed(self, live: LiveStream) -> None:
        """Stop waiting for a node that is gone, except for a resolver that may come back."""
        instance = InstanceGuid(live.node_id)
        self.farewells.closed(live)
        if NAME_TABLE_TYPE in live.stream.machines and not self._connected.resolves(instance):
            self.publication.left(instance)
        self._note(instance)

    async def run(self) -> None:
        """Work until cancelled."""
        self.publication.resume()
        issued = (each.not_before for each in self._custody.recorded())
        renewing = Renewing(
            self._renewals,
            self._connected.everybody,
            self._look,
            self._clock_jumped,
            self._clock,
            issued,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._backlog.work(self._due, self._try))
                tasks.create_task(renewing.run())
                if self._issuers is not None:
                    tasks.create_task(self._issuers.run(self._backlog.take_back))
        finally:
            await self.publication.close()

    def _clock_jumped(self) -> None:
        for callback in self._on_clock_jump:
            callback()

    def _mark_apps(self, apps: Iterable[AppGuid]) -> None:
        for app in apps:
            for instance in self._connected.of(app):
                self._backlog.add(instance)

    def _mark_resolvers(self, apps: Iterable[AppGuid]) -> None:
        for app in apps:
            for instance in filter(self._connected.resolves, self._connected.of(app)):
                self._backlog.add(instance)

    def _look(self, instance: InstanceGuid) -> None:
        if self.is_connected(instance):
            self._backlog.add(instance)

    def _due(self, guid: InstanceGuid) -> Mapping[str, Request]:
        instance = self.state.instance(guid)
        return {} if instance is None else self._certificates.due(self.state, instance)

    def _returned(self, instance: InstanceGuid, issued: Mapping[str, Issued]) -> None:
        """Plan for an instance with the certificates that were issued for it, or without any."""
        with self._custody.ready(instance, issued):
            self._try(instance)

    def _try(self, instance: InstanceGuid) -> None:
        try:
            self._reconcile(instance)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are planned for
            is_ours = isinstance(error, ControlPlaneError)
            reason = str(error) if is_ours else "a defect; the log has it"
            self.standing.plan_failed(instance, reason)
            self._log.exception(log_events.PLAN_FAILED, instance=instance)
            self._renewals.add(instance, self._clock.now() + RETRY)
        else:
            self.standing.forget_failure(instance)
        self._note(instance)
        for callback in self._on_plan:
            callback(instance)

    def _note(self, guid: InstanceGuid) -> None:
        """Wake the waits for an instance, and let names lead to it if it has its certificate."""
        self.waiters.note(guid)
        self.publication.told(guid)
        instance = self.state.instance(guid)
        if instance is None or guid not in self.publication.uncertified(instance.app_guid):
            return
        if self.standing.is_certified(guid):
            self.publication.certified(instance.app_guid, guid)

    def _reconcile(self, guid: InstanceGuid) -> None:
        self._backlog.drop(guid)
        instance = self.state.instance(guid)
        if instance is None:
            return
        secrets = self._certificates.of(self.state, instance)
        # The name table of a large app is large, and changes whenever one of its instances comes.
        published = self.publication.published if self._connected.resolves(guid) else None
        app = self.state.apps[instance.app_guid]
        gone = self._draining.of(app)
        plan = self._planner.plan(
            self.state, instance, secrets, published, self.publication.uncertified, gone
        )
        self._nodes.set(guid, plan)
        if (left := self._draining.left(app.guid)) is not None:
            self._renewals.add(guid, self._clock.now() + left)
        for live in self._nodes.streams(guid):
            self._make_anew(live)  # it may have asked before there was a plan

    def _make_anew(self, live: LiveStream) -> None:
        """Have secrets issued again that a client wants and of which only the record is left."""
        instance = InstanceGuid(live.node_id)
        snapshot = self._nodes.snapshot(instance)
        for _, name in live.stream.missing(snapshot) if snapshot is not None else ():
            self._custody.make_anew(instance, name)
            self._backlog.add(instance)

    def _see_off(self, instance: InstanceGuid) -> None:
        self._backlog.drop(instance)
        self.standing.forget_failure(instance)
        self._certificates.forget(instance)
        self._planner.forget(instance)
        self.farewells.removed(instance)
