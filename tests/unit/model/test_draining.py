"""What is gone and goes on to be served: it follows from commands, and is over in a minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane.model.apps import create_app, delete_app, update_app
from control_plane.model.change import Decision
from control_plane.model.draining import drop_drained, leave_draining
from control_plane.model.entities import AppProtocol, DrainingCaller, DrainingPort
from control_plane.model.policies import PolicySpec, remove_policies
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import C2C_PORT, Port
from tests.unit.model.world import NOW, A, B, C, allow, mapping, register, world

END = NOW + timedelta(minutes=1)
WERE = {
    DrainingPort(B, Port(8080), port, AppProtocol.HTTP1, END) for port in (Port(61001), C2C_PORT)
}
CALLS = PolicySpec(A, B, "tcp", 61443, 61443)


def update(state: State, **fields: Any) -> Decision[Any]:  # noqa: ANN401 - of the spec
    """Change app ``b``, and leave what drains by that."""
    spec = AppSpec.of(state.apps[B])
    return leave_draining(state, update_app(state, B, replace(spec, **fields)), END)


def test_ports_that_lead_elsewhere_drain() -> None:
    """All that the app had, since a listener is replaced as a whole; it is one with the change."""
    decision = update(world("a", "b"), ports=(9090,))

    assert set(decision.state.all_draining()) == WERE
    assert set(decision.change.puts) >= WERE


def test_another_protocol_drains_too() -> None:
    """Connections of then are spoken to as they were."""
    assert set(update(world("a", "b"), protocol="tcp").state.all_draining()) == WERE


def test_what_leads_where_it_led_leaves_nothing() -> None:
    """Another name, an app that is new, a route: the decision is the very same."""
    state = world("b")

    assert update(state, name="other").state.all_draining() == ()
    decisions: list[Decision[Any]] = [mapping(state, B, "x"), create_app(state, C, AppSpec("c"))]
    for decision in decisions:
        assert leave_draining(state, decision, END) is decision


def test_who_may_call_no_more_drains() -> None:
    """It was an app that might, whatever the ports; so of an app that is deleted."""
    state = allow(register(world("a", "b"), "b0", B, "10.0.0.1"), A, B)

    decisions: list[Decision[Any]] = [remove_policies(state, [CALLS]), delete_app(state, A)]
    for decision in decisions:
        left = leave_draining(state, decision, END).state.all_draining()
        assert left == (DrainingCaller(A, B, END),)


def test_what_drains_anew_drains_longer() -> None:
    """Of equal ports and callers there is one, which ends with the last."""
    state = update(world("b"), ports=(9090,)).state
    state = update(state, ports=(8080,)).state
    later = END + timedelta(seconds=5)
    changed = update_app(state, B, replace(AppSpec.of(state.apps[B]), ports=(9090,)))

    left = leave_draining(state, changed, later).state.all_draining()
    assert {each for each in left if each.ends_at == later} == {
        replace(each, ends_at=later) for each in WERE
    }


def test_what_has_drained_is_dropped() -> None:
    """Not a moment before; where nothing has, nothing changes."""
    state = update(world("b"), ports=(9090,)).state

    assert not drop_drained(state, END - timedelta(seconds=1)).change
    over = drop_drained(state, END)
    assert (over.result, over.state.all_draining()) == (2, ())
    assert set(over.change.drops) == WERE
    assert not over.change.apps
