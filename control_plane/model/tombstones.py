"""Tombstones: which instances were removed, for as long as a client can come back as one of them.

The rule of this module: every removal of an instance leaves a tombstone, unless nobody was ever
given an identity of that instance; and an instance that exists has no tombstone. An instance whose
address was given to another one may return, until it is removed or its app is deleted. All of this
follows from what a command did, so hardly a command has to handle it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from control_plane.model.change import Change, Decision, decide, removed_instances
from control_plane.model.entities import App, Instance, Tombstone
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
        _tombstone(state, each, end)
        for each in removed_instances(state, change)
        if (end := ends_at(each.guid)) is not None
    ]
    gone += [for_good(each) for each in _of_deleted_apps(state, change) if each.address]
    back = [
        tombstone
        for each in change.puts
        if isinstance(each, Instance) and (tombstone := state.tombstone(each.guid)) is not None
    ]
    if not gone and not back:
        return decision
    return decision.then(lambda state, result: decide(state, result, puts=gone, drops=back))


def for_good(left: Tombstone) -> Tombstone:
    """Return the tombstone of the same instance if it may not return."""
    return replace(left, address=None, app_address=None)


def ended_identities(state: State, change: Change) -> tuple[InstanceGuid, ...]:
    """Return the removed instances whose identities no longer count, or soon end, by a change.

    Args:
        state: the State after the change.
        change: the change.
    """
    concerned = {
        each.instance_guid if isinstance(each, Tombstone) else each.guid
        for each in (*change.puts, *change.drops)
        if isinstance(each, Instance | Tombstone)
    }
    return tuple(
        guid
        for guid in concerned
        if state.instance(guid) is None
        and ((left := state.tombstone(guid)) is None or left.address is None)
    )


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


def _tombstone(state: State, removed: Instance, end: datetime) -> Tombstone:
    left = Tombstone(removed.guid, removed.app_guid, end, removed.address, removed.app_address)
    return for_good(left) if state.instance_at(removed.address) is None else left


def _of_deleted_apps(state: State, change: Change) -> Iterator[Tombstone]:
    dropped = {each.guid for each in change.drops if isinstance(each, App)}
    deleted = {each for each in dropped if state.app(each) is None}
    if deleted:
        yield from (each for each in state.all_tombstones() if each.app_guid in deleted)
