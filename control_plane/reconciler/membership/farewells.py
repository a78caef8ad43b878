"""How a removed instance is told that it has nothing any more, and is then disconnected.

The rule of this module: Envoy serves what it has until it is told otherwise, so a removed instance
is told: on the streams that it has, or on one that it opens later, even after a restart of the
control plane. It is told nothing else. It has some seconds to answer, and then its stream ends.

Its Envoy and its resolver are told once each. After that their streams are ended without a
response: a client that got a response reconnects at once, and one that got none waits longer each
time.
"""

from __future__ import annotations

import asyncio

from control_plane.clock import Clock
from control_plane.errors import PermissionDenied
from control_plane.model.entities import Instance, Tombstone
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream, Nodes
from control_plane.planner import NAME_TABLE_TYPE, Planner
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import CLUSTER, LISTENER
from control_plane.xds.snapshot import Snapshot

BOUND_SECONDS = 10.0
"""How long a client has to ACK that nothing is left, before its stream ends."""

LATE_SECONDS = 60.0
"""If the resolver of an instance connects within this time after its Envoy was told, it is told
too; after that both are refused."""

_WITHDRAWN = (CLUSTER, LISTENER, NAME_TABLE_TYPE)


class Farewells:
    """The streams of removed instances, and which of these instances were told."""

    def __init__(self, nodes: Nodes, planner: Planner, clock: Clock) -> None:
        """Start with no instance removed.

        Args:
            nodes: have the streams, and the snapshots that are sent on them.
            planner: makes the plan that takes everything away.
            clock: tells how long ago an instance was told.
        """
        self._nodes = nodes
        self._planner = planner
        self._clock = clock
        self._timers: dict[LiveStream, asyncio.TimerHandle] = {}
        self._told: dict[InstanceGuid, dict[TypeUrl, float]] = {}

    def awaits(self, instance: InstanceGuid) -> bool:
        """Tell whether the Envoy or the resolver of a removed instance may have yet to be told."""
        at = self._told.get(instance, {}).get(LISTENER)
        return at is None or self._clock.monotonic() - at < LATE_SECONDS

    def removed(self, instance: InstanceGuid) -> None:
        """Tell an instance that was removed just now, if it has a stream."""
        streams = self._nodes.streams(instance)
        if not streams:
            self._nodes.forget(instance)
            return
        plan = self._nodes.snapshot(instance) or Snapshot()
        self._nodes.set(instance, self._planner.farewell(plan))
        for live in streams:
            self._begin(live)
            if live.stream.machines.keys().isdisjoint(_WITHDRAWN):
                _end(live)  # it has nothing that could be taken from it
            else:
                self._look(live)

    def opened(self, live: LiveStream) -> None:
        """Tell an instance that was removed before it opened this stream."""
        if len(self._nodes.streams(live.node_id)) == 1:
            self._nodes.set(live.node_id, self._planner.farewell(Snapshot()))
        self._begin(live)

    def told(self, live: LiveStream) -> None:
        """End a removed instance's stream if its client has nothing any more or was told before."""
        if live not in self._timers:
            return
        if _subjects(live) <= self._told.get(InstanceGuid(live.node_id), {}).keys():
            _end(live)
        else:
            self._look(live)

    def closed(self, live: LiveStream) -> None:
        """Forget a closed stream, and after the last one of an instance its snapshot."""
        timer = self._timers.pop(live, None)
        if timer is None:
            return
        timer.cancel()
        if not self._nodes.streams(live.node_id):
            self._nodes.forget(live.node_id)

    def forget(self, left: Tombstone, again: Instance | None) -> None:
        """Stop telling an instance: it was registered again, or nobody can connect as it any more.

        Args:
            left: its tombstone.
            again: the instance as it is registered now, None if it is not; if its app is another
                one, the present streams are not those of the new instance.
        """
        self._told.pop(left.instance_guid, None)
        for live in self._nodes.streams(left.instance_guid):
            if again is None:
                _end(live)  # once it is closed nothing is left of it
                continue
            timer = self._timers.pop(live, None)
            if timer is not None:
                timer.cancel()
            if again.app_guid != left.app_guid:
                _end(live)

    def _begin(self, live: LiveStream) -> None:
        loop = asyncio.get_running_loop()
        self._timers[live] = loop.call_later(BOUND_SECONDS, self._time_is_up, live)

    def _time_is_up(self, live: LiveStream) -> None:
        # A client that says that it has nothing is sent nothing, and so has nothing to ACK.
        self._look(live)
        _end(live)

    def _look(self, live: LiveStream) -> None:
        """End a stream if its client has given up everything that it had."""
        snapshot = self._nodes.snapshot(live.node_id) or Snapshot()
        machines, subjects = live.stream.machines, _subjects(live)
        if not subjects <= machines.keys():
            return  # an Envoy asks for its clusters first
        asked = [url for url in _WITHDRAWN if url in machines]
        if all(machines[url].in_step(snapshot.of_type(url)) for url in asked):
            told = self._told.setdefault(InstanceGuid(live.node_id), {})
            told |= dict.fromkeys(subjects, self._clock.monotonic())
            _end(live)


def _subjects(live: LiveStream) -> set[TypeUrl]:
    """Return what a client has to be told about: a resolver its names, an Envoy its listeners."""
    asked = live.stream.machines
    return {NAME_TABLE_TYPE if url == NAME_TABLE_TYPE else LISTENER for url in asked}


def _end(live: LiveStream) -> None:
    live.end(PermissionDenied("this instance was removed"))
