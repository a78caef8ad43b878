"""Tombstones: which instances were removed, for as long as a client can come back as one of them.

The rule of this module: every removal of an instance leaves a tombstone, unless nobody was ever
given an identity of that instance; and an instance that exists has no tombstone. Both follow from
what a command did, so no command has to handle them.
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
    """Return a decision that also leaves tombstones for the instances that it removed.

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
    """Forget the tombstones that have ended, except the spared ones; the result is their number."""
    ended = [
        each
        for each in state.all_tombstones()
        if each.ends_at <= now and each.instance_guid not in spared
    ]
    return decide(state, len(ended), drops=ended)
