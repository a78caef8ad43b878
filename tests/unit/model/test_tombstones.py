"""Tombstones: each instance that was removed has one, in whichever way, and no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import AlreadyExists, InvalidRequest
from control_plane.model.apps import delete_app
from control_plane.model.change import Decision, merged
from control_plane.model.entities import Instance, InstanceStatus, Tombstone
from control_plane.model.instances import (
    register_instance,
    remove_instance,
    return_instance,
    set_status,
)
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tombstones import (
    drop_ended_tombstones,
    ended_identities,
    leave_tombstones,
)
from control_plane.names import Address, InstanceGuid, parse_address
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


def supplanted(state: State) -> Decision[Any]:
    """Give the address of a0 to another instance, as an enrolment does if a0 is gone."""
    return remove_instance(state, A0).then(
        lambda left, _: register_instance(left, "b1", B, "10.0.0.1")
    )


@pytest.mark.parametrize(
    ("remove", "place"),
    [
        (lambda s: remove_instance(s, A0), ()),
        (lambda s: delete_app(s, A), ()),
        (supplanted, ("10.0.0.1", "127.0.0.1")),
    ],
    ids=["removed", "its app deleted", "its address given to another"],
)
def test_whatever_removes_an_instance_leaves_a_tombstone(
    state: State, remove: Callable[[State], Decision[Any]], place: tuple[Address, ...]
) -> None:
    """It says who it was, until when that can be proved, and where it was if it may return."""
    plain = remove(state)
    decision = amended(plain)
    left = Tombstone(A0, A, LATER, *place)

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


def test_who_lost_its_address_returns_with_another(state: State) -> None:
    """It is who it was, its Envoy reaches the app as before, and it has the lowest free index."""
    state = register(state, "a1", A, "10.0.0.3")
    state = amended(supplanted(state)).state
    back = amended(return_instance(state, state.tombstones[A0], parse_address("10.0.0.9")))

    assert back.result == Instance(A0, A, 0, parse_address("10.0.0.9"), parse_address("127.0.0.1"))
    assert back.state.instance(A0) == back.result
    assert not back.state.all_tombstones()


def test_who_returns_to_an_address_supplants_only_who_is_gone(state: State) -> None:
    """That one may return as well; one that is there keeps its address."""
    state = amended(supplanted(state)).state
    left, here = state.tombstones[A0], parse_address("10.0.0.1")
    with pytest.raises(AlreadyExists):
        return_instance(state, left, here)
    back = amended(return_instance(state, left, here, "127.0.0.9", holder_gone=True)).state

    assert back.instances[A0].app_address == "127.0.0.9"
    assert back.all_tombstones() == (
        Tombstone(InstanceGuid("b1"), B, LATER, here, parse_address("127.0.0.1")),
    )


@pytest.mark.parametrize(
    "end",
    [lambda s: remove_instance(s, A0), lambda s: delete_app(s, A)],
    ids=["removed", "its app deleted"],
)
def test_who_lost_its_address_does_not_return_from_a_removal(
    state: State, end: Callable[[State], Decision[Any]]
) -> None:
    """Its identity is worth nothing from then on, and is remembered only until then."""
    supplanting = amended(supplanted(state))
    removal = amended(end(supplanting.state))
    again = amended(end(removal.state)) if end(removal.state).change else removal

    assert ended_identities(supplanting.state, supplanting.change) == ()
    assert Tombstone(A0, A, LATER) in removal.change.puts
    assert removal.state.tombstone(A0) == Tombstone(A0, A, LATER)
    assert ended_identities(removal.state, removal.change) == (A0,)
    assert again is removal


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
