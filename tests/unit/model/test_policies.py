"""Network policies: idempotent, limited by source, and whom they concern."""

from __future__ import annotations

import pytest

from control_plane.errors import LimitExceeded
from control_plane.model.apps import create_app
from control_plane.model.entities import NetworkPolicy, Transport
from control_plane.model.policies import (
    PolicyOutcome,
    PolicySpec,
    add_policies,
    remove_policies,
)
from control_plane.model.spec import AppSpec
from control_plane.names import Port
from tests.unit.model.world import A, B, C, allow, policy, register, sources_of, world


def spec(source: str, destination: str, port: int = 61443) -> PolicySpec:
    """Return a policy for one TCP port, as a caller writes it."""
    return PolicySpec(source, destination, "tcp", port, port)


def test_a_policy_concerns_the_apps_at_its_ends() -> None:
    """The destination's listeners and the source's name table change."""
    added = add_policies(world(), [spec("a", "b")])
    removed = remove_policies(added.state, [spec("a", "b")])

    assert added.change.puts == removed.change.drops == (policy(A, B),)
    assert added.change.apps == removed.change.apps == {A, B}
    assert added.state.policies_from(A) == added.state.policies_to(B) == (policy(A, B),)
    assert removed.state == world()


def test_apps_are_named_by_name_in_their_space_or_by_guid() -> None:
    """Each end of a policy has its own org and space."""
    state = create_app(world("a"), "guid-b", AppSpec("b", org="shop", space="dev")).state
    named = PolicySpec("a", "b", "udp", 53, 54, destination_org="shop", destination_space="dev")
    by_guid = PolicySpec("guid-a", "guid-b", "udp", 53, 54)
    back = PolicySpec("b", "a", "udp", 53, 54, source_org="shop", source_space="dev")

    outcome, other = add_policies(state, [named, back]).result

    assert outcome.policy == NetworkPolicy(A, B, Transport.UDP, Port(53), Port(54))
    assert other.policy == NetworkPolicy(B, A, Transport.UDP, Port(53), Port(54))
    assert (outcome,) == add_policies(state, [by_guid]).result


def test_adding_what_exists_and_removing_what_does_not_changes_nothing() -> None:
    """Both are told as already so, and are no error."""
    state = allow(world(), A, B)

    added = add_policies(state, [spec("a", "b")])
    removed = remove_policies(state, [spec("a", "c")])

    assert added.result == (PolicyOutcome(policy(A, B), already=True),)
    assert removed.result == (PolicyOutcome(policy(A, C), already=True),)
    assert added.state is removed.state is state
    assert not added.change
    assert not removed.change


def test_there_is_an_outcome_for_each_policy_of_a_request() -> None:
    """A repetition within one request changes nothing the second time."""
    state = allow(world(), A, B)
    specs = [spec("a", "b"), spec("a", "c"), spec("a", "c"), spec("c", "a")]

    added = add_policies(state, specs)
    removed = remove_policies(state, specs)

    assert [outcome.already for outcome in added.result] == [True, False, True, False]
    assert [outcome.already for outcome in removed.result] == [False, True, True, True]
    assert added.change.puts == (policy(A, C), policy(C, A))
    assert added.change.apps == {A, C}


def test_an_app_may_have_a_policy_to_itself() -> None:
    """A -> A is a policy like any other, and needed for an app to reach its own instances."""
    state = register(world("a"), "a0", A, "10.0.0.1")
    assert sources_of(state, A, Transport.TCP, 61443) == ()

    state = allow(state, A, A)

    assert sources_of(state, A, Transport.TCP, 61443) == ("10.0.0.1",)


def test_a_source_app_has_150_policies_at_the_most() -> None:
    """The 151st is refused; repetitions, other sources and removals are not counted."""
    state = world()
    full = add_policies(state, [spec("a", "b", port) for port in range(1, 151)]).state

    with pytest.raises(LimitExceeded, match="policy quota exceeded"):
        add_policies(full, [spec("a", "c")])

    assert not add_policies(full, [spec("a", "b", 1), spec("a", "b", 1)]).change
    assert add_policies(full, [spec("b", "a")]).change
    less = remove_policies(full, [spec("a", "b", 7)]).state
    assert add_policies(less, [spec("a", "c"), spec("a", "c"), spec("a", "b", 1)]).change


def test_a_request_that_passes_the_limit_is_refused_whole() -> None:
    """No policy of the request is added, also none of another source."""
    with pytest.raises(LimitExceeded) as caught:
        add_policies(world(), [spec("b", "a"), spec("a", "b"), spec("a", "c")], limit=1)

    assert caught.value.field == "policies"
    assert add_policies(world(), [spec("b", "a"), spec("a", "b")], limit=1).change


def test_a_lowered_limit_refuses_nothing_that_exists() -> None:
    """An app above a limit that was lowered can still repeat and remove its policies."""
    state = allow(allow(world(), A, B), A, C)

    assert not add_policies(state, [spec("a", "b")], limit=1).change
    assert remove_policies(state, [spec("a", "b")]).change
    with pytest.raises(LimitExceeded):
        add_policies(state, [spec("a", "b", 1)], limit=1)


@pytest.mark.parametrize(
    ("transport", "port", "allowed"),
    [
        (Transport.TCP, 8079, False),
        (Transport.TCP, 8080, True),
        (Transport.TCP, 8090, True),
        (Transport.TCP, 8091, False),
        (Transport.UDP, 8080, False),
    ],
)
def test_a_policy_names_a_range_of_ports_of_one_protocol(
    transport: Transport, port: int, *, allowed: bool
) -> None:
    """Both ends of the range belong to it."""
    state = register(world(), "a0", A, "10.0.0.1")
    state = add_policies(state, [PolicySpec("a", "b", "tcp", 8080, 8090)]).state

    assert bool(sources_of(state, B, transport, port)) is allowed


@pytest.mark.parametrize(("start", "end"), [(1, 1), (1, 65535), (65535, 65535)])
def test_every_port_can_be_named(start: int, end: int) -> None:
    """The range may be as wide as ports go."""
    [outcome] = add_policies(world(), [PolicySpec("a", "b", "tcp", start, end)]).result

    assert (outcome.policy.start_port, outcome.policy.end_port) == (start, end)
