"""What is remembered of instances, and has to be forgotten with them.

The rule of this module: whoever keeps something of each instance, and is told of no commit by
itself, is one of the memories; then nothing piles up of instances that are gone. Who follows
commits (the reconciler with its publication, and presence) forgets as a step of its own, in the
order that it needs.
"""

from __future__ import annotations

from typing import Protocol

from control_plane.model.change import Change, removed_instances
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.registry import Subscriber


class Memory(Protocol):
    """Keeps something of each instance."""

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""


def forgetting(*memories: Memory) -> Subscriber:
    """Return who tells all of these which instances a change removed."""

    def forget(state: State, change: Change) -> None:
        for instance in removed_instances(state, change):
            for each in memories:
                each.forget(instance.guid)

    return forget
