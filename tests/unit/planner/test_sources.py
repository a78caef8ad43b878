"""Who may connect to a port, remembered and never out of date."""

from __future__ import annotations

import pytest

from control_plane.model.entities import InstanceStatus, Transport
from control_plane.model.instances import remove_instance, set_status
from control_plane.model.policies import PolicySpec, remove_policies
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.planner import sources as module
from control_plane.planner.sources import Sources
from tests.unit.planner import worlds

B = AppGuid("b")


def _asked(sources: Sources, state: State, port: int = 8080) -> tuple[str, ...]:
    """Ask twice, so that one of the answers is remembered; it must be the State's own."""
    answers = {sources.of(state, B, Transport.TCP, port) for _ in range(2)}
    assert answers == {state.sources_by_app(B, Transport.TCP, port)}
    return tuple(address for each in answers.pop() for address in each.addresses)


def test_an_answer_follows_policies_and_instances() -> None:
    """Whatever changes it is seen at once: a policy, an instance, its status, and back."""
    sources, state = Sources(), worlds.story()
    assert _asked(sources, state) == ()
    state = allowed = worlds.policy(state, "a", "b", "8080")
    assert _asked(sources, state) == ("10.0.0.1",)
    state = worlds.instance(state, "a1", "10.0.0.2")
    assert _asked(sources, state) == ("10.0.0.1", "10.0.0.2")
    state = set_status(state, InstanceGuid("a1"), InstanceStatus.GONE).state
    assert _asked(sources, state) == ("10.0.0.1",)
    state = remove_instance(state, InstanceGuid("a0")).state
    assert _asked(sources, state) == ()
    assert _asked(sources, allowed) == ("10.0.0.1",)
    state = remove_policies(allowed, [PolicySpec(AppGuid("a"), B, "tcp", 8080, 8080)]).state
    assert _asked(sources, state) == ()


def test_ports_are_apart() -> None:
    """A policy opens the ports that it names."""
    sources, state = Sources(), worlds.policy(worlds.story(), "a", "b", "8080")

    assert _asked(sources, state, 8080) == ("10.0.0.1",)
    assert _asked(sources, state, 8081) == ()


def test_what_is_not_asked_for_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded, and an answer that was forgotten is worked out again."""
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    sources, state = Sources(), worlds.policy(worlds.story(), "a", "b", "8080-8083")
    for port in (8080, 8081, 8082, 8083, 8080):
        assert _asked(sources, state, port) == ("10.0.0.1",)
