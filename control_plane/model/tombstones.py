"""Tombstones: which instances were removed, for as long as somebody can come back as one of them.

The rule of this module: whatever removes an instance leaves a tombstone, unless nobody was ever
given an identity of it, and an instance that is there has none. So it follows from what a command
did, and no command has to think of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TypeVar

from control_plane.model.change import Decision, decide, removed_instances
from control_plane.model.entities import Instance, Tombstone
from control_plane.model.state import State
from control_plane.names import InstanceGuid

Result = TypeVar("Result")


def leave_tombstones(
    decision: Decision[Result], ends_at: Callable[[InstanceGuid], datetime | None]
) -> Decision[Result]:
    """Return a decision that also has the tombstones of those whom it removed.

    Args:
        decision: what a command did.
        ends_at: returns when the last identity of an instance ends; None if it never had one.
    """
    state, change = decision.state, decision.change
    gone = [
        Tombstone(each.guid, each.app_guid, end)
        for each in removed_instances(state, change)
        if (end := ends_at(each.guid)) is not None
    ]
    back = [
        tombstone
        for each in change.puts
        if isinstance(each, Instance) and (tombstone := state.tombstone(each.guid)) is not None
    ]
    if not gone and not back:
        return decision
    return decision.then(lambda state, result: decide(state, result, puts=gone, drops=back))


def drop_ended_tombstones(
    state: State, now: datetime, spared: Collection[InstanceGuid] = ()
) -> Decision[int]:
    """Forget the tombstones that are over, but for some; the answer says how many that were."""
    ended = [
        each
        for each in state.all_tombstones()
        if each.ends_at <= now and each.instance_guid not in spared
    ]
    return decide(state, len(ended), drops=ended)
