"""Which instances are connected, as the other modules of this package ask for it.

The rule of this module: it stores nothing. The nodes have the streams, and the newest State says
which instance belongs to which app.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.nodes import LiveStream, Nodes
from control_plane.planner import NAME_TABLE_TYPE
from control_plane.xds.resource_type import SECRET


class ConnectedInstances:
    """Answers for the instances of the newest State."""

    def __init__(self, nodes: Nodes, state: Callable[[], State]) -> None:
        """Look them up in these."""
        self._nodes = nodes
        self._state = state

    def has(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a stream."""
        return bool(self._nodes.streams(instance))

    def everybody(self) -> list[InstanceGuid]:
        """Return every instance that has a stream."""
        return [each.guid for each in self._state().all_instances() if self.has(each.guid)]

    def of(self, app: AppGuid) -> list[InstanceGuid]:
        """Return the instances of an app that have a stream, by index."""
        instances = (each.guid for each in self._state().instances_of(app))
        return [each for each in instances if self.has(each)]

    def secret_streams(self, instance: InstanceGuid) -> list[LiveStream]:
        """Return the streams on which an instance asked for certificates."""
        streams = self._nodes.streams(instance)
        return [live for live in streams if SECRET in live.stream.machines]

    def resolves(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a resolver that follows its name table."""
        streams = self._nodes.streams(instance)
        return any(NAME_TABLE_TYPE in live.stream.machines for live in streams)
