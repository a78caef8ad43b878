"""Waits until a change has reached all instances that it concerns.

The rule of this module: the answer names the instances that the change has not reached, and why, in
words that an operator can act on. An instance that is away when a wait begins is not waited for. An
instance that loses its stream during the wait is waited for until it is back, counts as gone, or
says that it is about to stop. When the control plane stops, an instance that has not answered
counts as not having the change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import Instance
from control_plane.names import C2C_PORT, AppGuid, InstanceGuid, at_ports
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.progress import Behind, Stage
from control_plane.reconciler.reconciler import Reconciler
from control_plane.reconciler.served.attestation import NOBODY_LOOKS
from control_plane.reconciler.served.sight import Sight
from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.resource import TypeUrl
from control_plane.xds.snapshot import Snapshot

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25

_LAST_LOOK_SECONDS = 0.25
"""How long a handshake may take once the time is up; with a healthy instance it takes 3 ms."""

_NOT_BACK = (
    "its resolver is not connected and answers with the names that it had, so certificates keep "
    "the routes that were unmapped until it is back"
)


_NAMES = "what was sent is ACKed, but a name table still lacks a new name or has an old one"

_STOPPING = "the control plane is stopping"

_Asked = Mapping[InstanceGuid, frozenset[TypeUrl]]
"""The types that each instance asked for when the wait for it began."""


class Convergence:
    """Answers which instances have a change and which have not."""

    def __init__(
        self,
        reconciler: Reconciler,
        nodes: Nodes,
        custody: Custody,
        sight: Sight,
        clock: Clock,
    ) -> None:
        """Look at instances through these."""
        self._reconciler = reconciler
        self._nodes = nodes
        self._custody = custody
        self._sight = sight
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Answer all present and future waits: the instances that they wait for count as behind.

        To be called before streams are ended, since the end of a stream says nothing about who has
        a change.
        """
        self._stopping.set()

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._sight.forget(instance)

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Wait until every connected instance of some apps has reached a stage.

        Args:
            apps: the apps whose instances to wait for.
            stage: how far the change has to get.
            timeout: the longest wait in seconds.

        Returns:
            the instances that are behind when the time is up, or the control plane stops.
        """
        if stage is Stage.COMMITTED:
            return ()
        instances = {each.guid: each for app in apps for each in self._waited_for(app)}
        asked = {guid: self._reconciler.standing.asked(guid) for guid in instances}
        deadline = self._clock.monotonic() + timeout
        reaching = asyncio.ensure_future(self._reach(apps, stage, instances, asked, deadline))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([reaching, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                return reaching.result()
        finally:
            reaching.cancel()
            stopping.cancel()
        return tuple(
            replace(_behind(instance, self._stage(guid, asked), _STOPPING), stopping=True)
            for guid, instance in sorted(instances.items())
        )

    def _waited_for(self, app: AppGuid) -> Iterator[Instance]:
        """Yield the instances of an app that are connected, or were until streams were ended."""
        of = self._reconciler
        for each in of.state.instances_of(app):
            if of.is_connected(each.guid) or (self._stopping.is_set() and of.may_return(each.guid)):
                yield each

    def _stage(self, instance: InstanceGuid, asked: _Asked) -> Stage:
        is_there = self._reconciler.is_connected(instance) and self._is_back(instance, asked)
        has_it = is_there and self._reconciler.standing.is_current(instance)
        return Stage.ACKED if has_it else Stage.COMMITTED

    def _is_back(self, instance: InstanceGuid, asked: _Asked) -> bool:
        """Tell whether an instance lost no stream, is back, or is no longer waited for."""
        away = self._reconciler.standing.away(instance, asked[instance])
        may_return = self._reconciler.may_return(instance) and not self._sight.is_over(instance)
        return not away or not may_return

    async def _reach(
        self,
        apps: frozenset[AppGuid],
        stage: Stage,
        instances: Mapping[InstanceGuid, Instance],
        asked: _Asked,
        deadline: float,
    ) -> tuple[Behind, ...]:
        late = await self._all_acked(apps, asked, deadline)
        behind = [
            _behind(instances[each], Stage.COMMITTED, self._why_not_acked(each, asked[each]))
            for each in sorted(late)
        ]
        behind += [
            _behind(each, Stage.COMMITTED, _NOT_BACK)
            for each in self._reconciler.publication.awaited(apps)
        ]
        if not behind and self._reconciler.publication.under_way(apps):
            return tuple(_behind(each, Stage.COMMITTED, _NAMES) for each in instances.values())
        if stage is Stage.SERVED:
            rest = [instances[each] for each in sorted(instances.keys() - late)]
            results = await asyncio.gather(*(self._unserved(each, deadline) for each in rest))
            behind += [each for each in results if each is not None]
        return tuple(behind)

    async def _all_acked(
        self, apps: frozenset[AppGuid], asked: _Asked, deadline: float
    ) -> frozenset[InstanceGuid]:
        """Wait for the instances, and for what names and certificates wait for in each other."""
        while True:
            # A task that ends during the wait below changes what instances should have, including
            # those that arrived before.
            under_way = self._reconciler.publication.under_way(apps)
            left = max(0.0, deadline - self._clock.monotonic())
            late = await self._reconciler.waiters.wait(
                asked, left, lambda each: self._is_back(each, asked)
            )
            under_way += self._reconciler.publication.under_way(apps)
            left = max(0.0, deadline - self._clock.monotonic())
            if not under_way or not left:
                return late
            await asyncio.wait(under_way, timeout=left)

    def _why_not_acked(self, instance: InstanceGuid, asked: frozenset[TypeUrl]) -> str:
        standing = self._reconciler.standing
        if self._reconciler.state.instance(instance) is None:
            return "it was removed"
        if reason := standing.behind(instance):
            return reason
        if away := standing.away(instance, asked):
            return f"{away} lost its stream and is not back yet"
        snapshot = self._nodes.sendable(instance) or Snapshot()
        missing = [
            each
            for live in self._nodes.streams(instance)
            for each in deliveries(live.stream, snapshot)
            if each.status is not ConfigStatus.SYNCED
        ]
        refused = {
            each.name: each.refusal.error.message.strip()
            for each in missing
            if each.status is ConfigStatus.ERROR and each.refusal is not None
        }
        # If several resources were refused together, Envoy's message names the bad one.
        if refused:
            name = min(refused, key=lambda name: name not in refused[name])
            return f"it refused {name}: {refused[name]}"
        if missing:
            first = missing[0]
            is_sent = first.status is not ConfigStatus.NOT_SENT
            what = "has not answered for" if is_sent else "was not sent"
            return f"it {what} {first.name} yet ({first.status.value})"
        return "it has not withdrawn everything yet"

    async def _unserved(self, known: Instance, deadline: float) -> Behind | None:
        """Look until an instance serves its certificate, whatever its address is by then."""
        guid, pause = known.guid, _FIRST_PAUSE
        while True:
            instance = self._reconciler.state.instance(guid)
            held = self._custody.get(guid, C2C_SECRET)
            is_there = self._reconciler.is_connected(guid) or self._reconciler.may_return(guid)
            if instance is None or held is None or not is_there or self._sight.is_over(guid):
                return None
            seen = await self._seen(instance, deadline)
            if seen == held.serial:
                return None
            left = deadline - self._clock.monotonic()
            if left <= 0:
                reason = (
                    f"its last TLS handshake showed serial {seen:x}"
                    if isinstance(seen, int)
                    else seen
                )
                reason = f"serial {held.serial:x} is not served: {reason}"
                return _behind(instance, Stage.ACKED, reason)
            await self._sight.pause(guid, min(left, pause), unheard=min(left, _LONGEST_PAUSE))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _seen(self, instance: Instance, deadline: float) -> int | str:
        """Return the serial that an instance serves, or why none is known."""
        left = max(_LAST_LOOK_SECONDS, deadline - self._clock.monotonic())
        try:
            async with asyncio.timeout(left):
                seen = await self._sight.look(instance.guid)
        except TimeoutError:
            where = at_ports(instance.address, C2C_PORT)
            return f"no TLS handshake with {where} within {left:.1f} s"
        return NOBODY_LOOKS if seen is None else seen


def _behind(instance: Instance, stage: Stage, reason: str) -> Behind:
    return Behind(instance.guid, instance.app_guid, instance.index, stage, reason)
