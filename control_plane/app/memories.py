"""What is remembered of instances, and has to be forgotten with them.

The rule of this module: an object that keeps something for each instance, and is not itself told of
commits, is one of the memories; so nothing piles up for instances that are gone. An object that
follows commits (the reconciler with its publication, and presence) forgets instances as a step of
its own, in the order that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from control_plane.model.change import Change, removed_instances
from control_plane.model.state import State
from control_plane.model.tombstones import ended_identities
from control_plane.names import InstanceGuid
from control_plane.registry import Subscriber


class Memory(Protocol):
    """An object that keeps something for each instance."""

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""


def forgetting(of_identities: Sequence[Memory], *memories: Memory) -> Subscriber:
    """Return a subscriber that tells all of these memories which instances a change removed.

    Args:
        of_identities: are told once the instance cannot return any more, because until then they
            have to know which certificates it has, and which of these count.
        memories: are told at once.
    """

    def forget(state: State, change: Change) -> None:
        for guid in ended_identities(state, change):
            for each in of_identities:
                each.forget(guid)
        for instance in removed_instances(state, change):
            for each in memories:
                each.forget(instance.guid)

    return forget
