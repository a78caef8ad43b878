"""Whose resolver has yet to come back, and for how long it is waited for."""

from __future__ import annotations

import asyncio

from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership.absences import GRACE_SECONDS
from control_plane.reconciler.publication.returning import Returning
from tests.unit.model.world import A, register, world
from tests.unit.reconciler.clocks import ManualClock

A0, A1, A2 = map(InstanceGuid, ("a0", "a1", "a2"))


def resolving(*guids: InstanceGuid) -> State:
    """Return a State in which these instances have a resolver."""
    state = world("a")
    for number, guid in enumerate(guids):
        state = register(state, guid, A, f"10.0.0.{number}")
        state = set_status(state, guid, InstanceStatus.READY, has_resolver=True).state
    return state


def test_after_a_start_those_are_expected_that_had_a_resolver_and_are_not_gone() -> None:
    """Who counts as gone answers nobody any more."""
    state = set_status(resolving(A0, A1), A1, InstanceStatus.GONE).state
    state = register(state, A2, A, "10.0.0.9")

    missing = Returning(state, ManualClock()).missing(state.all_instances())

    assert [each.guid for each in missing] == [A0]


async def test_each_is_waited_for_as_long_as_it_has() -> None:
    """The end of the time of one is no reason to give up on another, which left later."""
    clock, state = ManualClock(), resolving(A0, A1)
    returning = Returning(State(), clock)
    returning.left(A0)
    await clock.advance(GRACE_SECONDS - 0.001)
    returning.left(A1)

    waiting = asyncio.create_task(returning.wait(state.all_instances()))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done

    for guid in (A0, A1):
        returning.came(guid)
    await waiting
