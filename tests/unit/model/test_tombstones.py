"""Tombstones: each instance that was removed has one, in whichever way, and no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import InvalidRequest
from control_plane.model.apps import delete_app
from control_plane.model.change import Decision, merged
from control_plane.model.entities import Instance, InstanceStatus, Tombstone
from control_plane.model.instances import (
    register_instance,
    remove_instance,
    set_status,
)
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tombstones import drop_ended_tombstones, leave_tombstones
from control_plane.names import InstanceGuid
from tests.unit.model.test_random_commands import COMMANDS, GUIDS, Command, applied, rows
from tests.unit.model.world import NOW, A, B, register, world

A0, B0 = InstanceGuid("a0"), InstanceGuid("b0")
LATER = NOW + timedelta(hours=24)


def ends_at(_: InstanceGuid) -> datetime:
    """Return when the identities of this test end."""
    return LATER


def amended(decision: Decision[Any]) -> Decision[Any]:
    """Return a decision with the tombstones that follow from it."""
    return leave_tombstones(decision, ends_at)


@pytest.fixture
def state() -> State:
    """Return app a and app b with one instance each."""
    return register(register(world("a", "b"), "a0", A, "10.0.0.1"), "b0", B, "10.0.0.2")


def test_an_instance_that_nobody_could_be_leaves_none(state: State) -> None:
    """No identity of it was given to anybody, so nobody has to be recognised."""
    left = leave_tombstones(remove_instance(state, A0), lambda _: None)

    assert left.state.instance(A0) is None
    assert not left.state.all_tombstones()


@pytest.mark.parametrize(
    "remove",
    [
        lambda s: remove_instance(s, A0),
        lambda s: delete_app(s, A),
        lambda s: remove_instance(s, A0).then(
            lambda left, _: register_instance(left, "b1", B, "10.0.0.1")
        ),
    ],
    ids=["removed", "its app deleted", "its address given to another"],
)
def test_whatever_removes_an_instance_leaves_a_tombstone(
    state: State, remove: Callable[[State], Decision[Any]]
) -> None:
    """It says which instance of which app it was, and until when that can be proved."""
    plain = remove(state)
    decision = amended(plain)
    left = Tombstone(A0, A, LATER)

    assert decision.state.tombstone(A0) == left
    assert decision.state.all_tombstones() == (left,)
    assert decision.change.puts == (*plain.change.puts, left)
    assert decision.change.drops == plain.change.drops
    assert decision.change.apps == plain.change.apps
    assert decision.result == plain.result


def test_who_is_registered_again_has_no_tombstone(state: State) -> None:
    """The operator says that it is there: nothing of the removal is left."""
    removed = amended(remove_instance(state, A0))
    again = amended(register_instance(removed.state, A0, A, "10.0.0.1"))

    assert again.state == state
    assert again.change.drops == (Tombstone(A0, A, LATER),)
    assert merged([removed.change, again.change]).puts == (state.instances[A0],)


def test_a_change_that_removes_nobody_stays_as_it_is(state: State) -> None:
    """So does one that changes nothing."""
    for decision in (
        set_status(state, A0, InstanceStatus.READY),
        remove_instance(state, InstanceGuid("nobody")),
    ):
        assert amended(decision) is decision


def test_a_tombstone_is_forgotten_when_it_is_over(state: State) -> None:
    """At that very moment, and the others stay."""
    state = amended(remove_instance(state, A0)).state
    state = leave_tombstones(
        remove_instance(state, B0), lambda _: LATER + timedelta(microseconds=1)
    ).state
    early = drop_ended_tombstones(state, LATER - timedelta(microseconds=1))
    decision = drop_ended_tombstones(state, LATER)

    assert (early.result, early.state) == (0, state)
    assert not early.change
    assert decision.result == 1
    assert [each.instance_guid for each in decision.state.all_tombstones()] == [B0]
    assert decision.change.apps == frozenset()


@given(st.lists(COMMANDS, min_size=10, max_size=40))
def test_whatever_commands_come_who_is_gone_has_one_and_who_is_there_has_none(
    commands: list[Command],
) -> None:
    """And a Change has every tombstone that came or went, so that the disk agrees."""
    state = State.of(AppSpec(guid).parse(guid) for guid in GUIDS)
    removed: set[InstanceGuid] = set()
    for command in commands:
        try:
            decision = amended(command(state))
        except InvalidRequest:
            continue
        assert rows(decision.state) == applied(decision.change, rows(state))
        state = decision.state
        removed |= {each.guid for each in decision.change.drops if isinstance(each, Instance)}
        removed -= set(state.instances)

        assert set(state.tombstones) == removed
