"""Groups of nodes that should all have the same, formed by what clients say of themselves.

The rule of this module: as long as a node has a stream, it is in exactly one group, namely the one
that its newest stream puts it in, and it has what that group should have.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.config.core.v3 import base_pb2

from control_plane.nodes import LiveStream, Nodes, StreamObserver
from control_plane.server.discovery.wire_node import node_message
from control_plane.xds.snapshot import Snapshot

GroupOf = Callable[[base_pb2.Node], str]
"""Returns the group of a node. The message has ``id``, ``cluster``, ``locality``, ``metadata``
up to 16 KiB, ``client_features`` and the user agent; it is a claim, like everything that clients
say."""


class Groups(StreamObserver):
    """What each group should have; streams tell which nodes are in it."""

    def __init__(self, nodes: Nodes, group_of: GroupOf) -> None:
        """Start with no group."""
        self._nodes = nodes
        self._group_of = group_of
        self._snapshots: dict[str, Snapshot] = {}
        self._members: dict[str, dict[str, None]] = {}
        self._group: dict[str, str] = {}

    def set(self, group: str, snapshot: Snapshot) -> None:
        """State what each node of a group should have."""
        before = self._snapshots.get(group)
        if before is not None:
            # What did not change is worked out once here, and not for each node of the group.
            snapshot = snapshot.keeping(before, snapshot.changed_since(before))
        self._snapshots[group] = snapshot
        for node_id in self._members.get(group, ()):
            self._nodes.set(node_id, snapshot)

    def forget(self, group: str) -> None:
        """Drop what a group should have."""
        if self._snapshots.pop(group, None) is not None:
            for node_id in self._members.get(group, ()):
                self._nodes.forget(node_id)

    def opened(self, live: LiveStream) -> None:
        """Put a node into the group that ``group_of`` returns for it now."""
        node_id = live.node_id
        group: object = self._group_of(node_message(live.stream.node))
        if not isinstance(group, str):  # such as a number from the metadata, or a coroutine
            kind = type(group).__qualname__
            raise TypeError(f"group_of() returns the group of a node at once, a str, not a {kind}")
        if self._group.get(node_id) == group:
            return
        self._leave(node_id)
        self._group[node_id] = group
        self._members.setdefault(group, {})[node_id] = None
        snapshot = self._snapshots.get(group)
        if snapshot is not None:
            self._nodes.set(node_id, snapshot)

    def closed(self, live: LiveStream) -> None:
        """Take a node out of its group if this was its last stream."""
        if not self._nodes.streams(live.node_id):
            self._leave(live.node_id)

    def _leave(self, node_id: str) -> None:
        group = self._group.pop(node_id, None)
        if group is None:
            return
        del self._members[group][node_id]
        if not self._members[group]:
            del self._members[group]
        self._nodes.forget(node_id)
