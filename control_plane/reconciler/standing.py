"""How far each instance is: whether it has all that it should have, and why not.

The rule of this module: it remembers nothing itself but whose plan failed. The rest it looks up
where it is kept, so there is no second account that could differ.
"""

from __future__ import annotations

from control_plane.envoy.listeners import C2C_SECRET
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.backlog import Backlog
from control_plane.reconciler.certificates.custody import Custody
from control_plane.xds.delivery import has_version
from control_plane.xds.resource_type import SECRET


class Standing:
    """Answers whether an instance is up to date."""

    def __init__(self, nodes: Nodes, custody: Custody, backlog: Backlog) -> None:
        """Look instances up in these."""
        self._nodes = nodes
        self._custody = custody
        self._backlog = backlog
        self._failures: dict[InstanceGuid, str] = {}

    def is_current(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance ACKed all that it should have, or is not connected."""
        streams = self._nodes.streams(instance)
        if not streams:
            return True
        if instance in self._backlog or instance in self._failures:
            return False
        if self._custody.failure(instance):
            return False
        snapshot = self._nodes.snapshot(instance)
        return snapshot is None or all(live.stream.in_step(snapshot) for live in streams)

    def has_certificate(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance ACKed its certificate, or said that it has it.

        Who just came back is in step with all that it asked for, and may ask for that next.
        """
        held = self._custody.get(instance, C2C_SECRET)
        return held is not None and any(
            has_version(live.stream, SECRET, C2C_SECRET, held.version)
            for live in self._nodes.streams(instance)
        )

    def plan_failure(self, instance: InstanceGuid) -> str:
        """Return why an instance goes on with an old plan, or ""."""
        return self._failures.get(instance, "")

    def plan_failed(self, instance: InstanceGuid, reason: str) -> None:
        """Remember why there is no plan for an instance."""
        self._failures[instance] = reason

    def forget_failure(self, instance: InstanceGuid) -> None:
        """Forget that its plan failed: there is one now, or nobody to plan for."""
        self._failures.pop(instance, None)
