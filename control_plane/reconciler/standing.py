"""How far each instance is: whether it has everything that it should have, and if not, why.

The rule of this module: it remembers only which plans failed. Everything else it looks up where it
is kept, so there is no second account that could differ.
"""

from __future__ import annotations

from control_plane.envoy.secrets import C2C_SECRET
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.planner import NAME_TABLE_TYPE
from control_plane.reconciler.backlog import Backlog
from control_plane.reconciler.certificates.custody import Custody
from control_plane.xds.delivery import has_version
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import SECRET
from control_plane.xds.snapshot import EMPTY, Snapshot


class Standing:
    """Answers whether an instance is up to date."""

    def __init__(self, nodes: Nodes, custody: Custody, backlog: Backlog) -> None:
        """Look instances up in these."""
        self._nodes = nodes
        self._custody = custody
        self._backlog = backlog
        self._failures: dict[InstanceGuid, str] = {}

    def is_current(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has ACKed all that it should have, or is not connected."""
        streams = self._nodes.streams(instance)
        if not streams:
            return True
        if self.behind(instance):
            return False
        snapshot = self._nodes.snapshot(instance)
        return snapshot is None or all(live.stream.in_step(snapshot) for live in streams)

    def behind(self, instance: InstanceGuid) -> str:
        """Return why what a connected instance should have is not on its way, or ""."""
        if not self._nodes.streams(instance):
            return ""
        if failure := self._custody.failure(instance):
            return f"no certificate could be issued: {failure}"
        if failure := self.plan_failure(instance):
            return f"it goes on with what it had: {failure}"
        return "its turn has not come yet" if instance in self._backlog else ""

    def asked(self, instance: InstanceGuid) -> frozenset[TypeUrl]:
        """Return the types that an instance asked for, to tell later whether it is back."""
        streams = self._nodes.streams(instance)
        return frozenset(url for live in streams for url in live.stream.machines)

    def away(self, instance: InstanceGuid, asked: frozenset[TypeUrl]) -> str:
        """Return which client of an instance lost its stream and is not back; "" if none did.

        A client that is back asks again for the types that it asked for before, except for those of
        which it should have nothing any more.

        Args:
            instance: the instance.
            asked: the types that it asked for while it was connected.
        """
        now, snapshot = self.asked(instance), self._nodes.snapshot(instance) or Snapshot()
        missing = {url for url in asked - now if snapshot.of_type(url) != EMPTY}
        if missing - {NAME_TABLE_TYPE} or not self._nodes.streams(instance):
            return "its Envoy"
        return "its resolver" if missing else ""

    def is_certified(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance is connected and has the certificate that it should have.

        It does not matter what else the instance refused or has yet to answer, nor does a stream on
        which it has not asked for the certificate.
        """
        held = self._custody.get(instance, C2C_SECRET)
        if held is None or self.awaits_plan(instance):
            return False
        if self._custody.has_failed(instance, C2C_SECRET):
            return False
        there = [
            has_version(live.stream, SECRET, C2C_SECRET, held.version)
            for live in self._nodes.streams(instance)
            if (machine := live.stream.machines.get(SECRET)) is not None
            and machine.subscription.wants(C2C_SECRET)
        ]
        return any(there) and all(there)

    def has_names(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance's resolver, if any, ACKed the names that it should have."""
        streams = [live.stream for live in self._nodes.streams(instance)]
        asked = [each for each in streams if NAME_TABLE_TYPE in each.machines]
        if not asked:
            return True
        if self.awaits_plan(instance):
            return False
        snapshot = self._nodes.snapshot(instance)
        return snapshot is None or all(
            each.machines[NAME_TABLE_TYPE].in_step(each.content(NAME_TABLE_TYPE, snapshot))
            for each in asked
        )

    def plan_failure(self, instance: InstanceGuid) -> str:
        """Return why an instance goes on with an old plan, or ""."""
        return self._failures.get(instance, "")

    def plan_failed(self, instance: InstanceGuid, reason: str) -> None:
        """Remember why a plan could not be made for an instance."""
        self._failures[instance] = reason

    def forget_failure(self, instance: InstanceGuid) -> None:
        """Forget that a plan failed: there is one now, or the instance was removed."""
        self._failures.pop(instance, None)

    def awaits_plan(self, instance: InstanceGuid) -> bool:
        """Tell whether the plan of an instance has yet to be made, or could not be made."""
        return instance in self._backlog or instance in self._failures
