"""Changes: what successive ones come to, and commands that follow one another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.errors import NotFound
from control_plane.model.apps import delete_app
from control_plane.model.change import Change, decide, departed, merged
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import move_instance, remove_instance, set_status
from control_plane.model.routes import unmap_route
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from tests.unit.model.world import A, B, allow, mapping, register, world

A1 = InstanceGuid("a1")
APP = world("a").apps[A]
OTHER = world("b").apps[B]


def test_departed_is_who_was_removed_and_who_counts_as_gone() -> None:
    """Neither who is there, nor who was only moved."""
    state = register(register(world("a"), InstanceGuid("a0"), A, "10.0.0.1"), A1, A, "10.0.0.2")
    gone = set_status(state, A1, InstanceStatus.GONE)
    removed = remove_instance(state, A1)
    moved = move_instance(state, A1, "10.0.0.9")
    ready = set_status(state, A1, InstanceStatus.READY)

    assert departed(gone.state, gone.change) == departed(removed.state, removed.change) == (A1,)
    assert departed(moved.state, moved.change) == departed(ready.state, ready.change) == ()


def test_a_change_is_true_if_rows_are_to_be_written() -> None:
    """Naming an app alone is no change."""
    assert not Change(apps=frozenset({A}))
    assert Change(puts=(APP,))
    assert Change(drops=(APP,))


def test_a_decision_that_changes_nothing_keeps_the_very_state() -> None:
    """Whoever compares States by identity sees that nothing happened."""
    state = world()

    assert decide(state, "result").state is state


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], Change()),
        ([Change((APP,)), Change((OTHER,))], Change((APP, OTHER))),
        ([Change((APP,)), Change((replace(APP, ssh=True),))], Change((replace(APP, ssh=True),))),
        ([Change((APP,)), Change((), (APP,))], Change((), (APP,))),
        ([Change((), (APP,)), Change((APP,))], Change((APP,))),
        (
            [Change((APP,)), Change((), (APP,)), Change((replace(APP, ssh=True),))],
            Change((replace(APP, ssh=True),)),
        ),
        (
            [Change((APP,), (), frozenset({A})), Change((), (OTHER,), frozenset({B}))],
            Change((APP,), (OTHER,), frozenset({A, B})),
        ),
        ([Change((APP,), (APP,))], Change((APP,))),
    ],
    ids=[
        "none",
        "two-puts",
        "put-again",
        "put-then-drop",
        "drop-then-put",
        "put-drop-put",
        "apps-of-both",
        "replaced-in-one",
    ],
)
def test_the_last_word_on_an_entity_counts(changes: list[Change], expected: Change) -> None:
    """Successive changes come to what the last of them says of each entity."""
    assert merged(changes) == expected


def test_a_second_command_sees_what_the_first_decided() -> None:
    """Two commands in a row are one decision, with one change of all rows and apps."""
    state = register(allow(world(), A, B), "a0", A, "10.0.0.1")

    decision = mapping(state, A, "shop").then(lambda state, _: delete_app(state, A))

    assert decision.state == delete_app(state, A).state
    assert decision.result == APP
    assert decision.change.apps == {A, B}
    assert decision.change.puts == ()


def test_a_first_command_is_nothing_if_the_second_is_refused() -> None:
    """The refusal comes through, and nobody holds the State in between."""
    with pytest.raises(NotFound):
        mapping(world(), A, "shop").then(
            lambda state, _: unmap_route(delete_app(state, A).state, A, "shop", "apps.internal")
        )


def test_a_change_leads_from_one_state_to_the_next() -> None:
    """Who applies drops, then puts, to the old State has the new one."""
    state = register(allow(world(), A, B), "a0", A, "10.0.0.1")
    decision = delete_app(state, A)

    assert decide(state, None, puts=decision.change.puts, drops=decision.change.drops).state == (
        decision.state
    )
    assert isinstance(decision.state, State)
