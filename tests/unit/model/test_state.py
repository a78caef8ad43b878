"""State: what it answers, that it is never changed, and that it can be built from its entities."""

from __future__ import annotations

from datetime import timedelta

import pytest

from control_plane.model.entities import (
    AppProtocol,
    DrainingCaller,
    DrainingPort,
    JoinToken,
    OperatorCertificate,
    Tombstone,
    Transport,
    key_of,
)
from control_plane.model.state import State
from control_plane.names import Address, Hostname, InstanceGuid, Port
from tests.unit.model.world import (
    NOW,
    A,
    B,
    C,
    allow,
    entities_of,
    mapping,
    policy,
    register,
    sources_of,
    world,
)

FIRST = JoinToken("f" * 64, A, NOW, 1)
SECOND = JoinToken("a" * 64, A, NOW + timedelta(seconds=1), 1)
THIRD = JoinToken("b" * 64, B, NOW + timedelta(seconds=1), 1)
OPERATOR = OperatorCertificate(1, "alice", NOW)
LEFT = Tombstone(InstanceGuid("a9"), A, NOW)
PORT = DrainingPort(A, Port(8080), Port(61001), AppProtocol.HTTP1, NOW)
CALLER = DrainingCaller(A, B, NOW)


@pytest.fixture
def state() -> State:
    """Return a State with every kind of entity."""
    state = register(world("b", "a", "c"), "b0", B, "10.0.0.9")
    state = register(register(state, "a0", A, "10.0.0.3"), "a1", A, "10.0.0.2")
    state = mapping(mapping(mapping(state, B, "z").state, A, "z").state, A, "b").state
    state = allow(allow(state, A, C, 8080), A, C)
    state = allow(state, B, C)
    for entity in (SECOND, THIRD, FIRST, OPERATOR, LEFT, PORT, CALLER):
        state = state.put(entity)
    return state


def test_a_state_is_built_from_its_entities(state: State) -> None:
    """What is read back from disk in any order has every index that the original had."""
    assert State.of(entities_of(state)) == state
    assert State.of(reversed(entities_of(state))) == state


def test_dropping_every_entity_leaves_nothing(state: State) -> None:
    """No index keeps a trace of what is gone."""
    for entity in reversed(entities_of(state)):
        state = state.drop(entity)

    assert state == State()


def test_putting_or_dropping_twice_is_doing_it_once(state: State) -> None:
    """An entity that is there already, or gone already, leaves State as it is."""
    for entity in entities_of(state):
        without = state.drop(entity)

        assert state.put(entity) == state
        assert without.drop(entity) == without
        assert without != state


def test_an_old_state_goes_on_answering(state: State) -> None:
    """Whoever holds a State is undisturbed by what comes after it."""
    before = entities_of(state)

    for entity in before:
        state.drop(entity)
        state.put(entity)

    assert entities_of(state) == before


def test_lists_are_sorted(state: State) -> None:
    """Equal States list the same in the same order, which no hash has a say in."""
    assert [app.key.name for app in state.all_apps()] == ["a", "b", "c"]
    assert [instance.guid for instance in state.all_instances()] == ["a0", "a1", "b0"]
    assert state.hostnames_of(A) == ("b.apps.internal", "z.apps.internal")
    assert state.apps_of(Hostname("z.apps.internal")) == (A, B)
    assert state.all_policies() == (policy(A, C, 8080), policy(A, C), policy(B, C))
    assert state.all_tokens() == (FIRST, SECOND, THIRD)
    assert state.tokens_of(A) == (FIRST, SECOND)


def test_questions_about_what_is_not_there_have_empty_answers() -> None:
    """Nothing is known of an app, an instance or a name that was never put."""
    state = State()

    assert state.app(A) is None
    assert state.instance(InstanceGuid("a0")) is None
    assert state.token("f" * 64) is None
    assert state.tombstone(InstanceGuid("a0")) is None
    assert state.instance_at(Address("10.0.0.1")) is None
    assert not state.instances_of(A)
    assert not state.hostnames_of(A)
    assert not state.tokens_of(A)
    assert not state.policies_from(A)
    assert not state.policies_to(A)
    assert not state.apps_of(Hostname("a.apps.internal"))
    assert not state.has_policy(policy(A, B))


def test_sources_are_the_addresses_of_all_instances_that_may_connect(state: State) -> None:
    """Each address once, also if two policies admit it, and sorted."""
    wide = state.put(policy(B, C, 8080))

    assert sources_of(state, C, Transport.TCP, 61443) == ("10.0.0.2", "10.0.0.3", "10.0.0.9")
    assert sources_of(state, C, Transport.TCP, 8080) == ("10.0.0.2", "10.0.0.3")
    assert sources_of(wide, C, Transport.TCP, 8080) == ("10.0.0.2", "10.0.0.3", "10.0.0.9")
    assert sources_of(state, C, Transport.UDP, 61443) == ()
    assert sources_of(state, A, Transport.TCP, 61443) == ()


def test_each_entity_has_a_key_of_its_own(state: State) -> None:
    """Two entities have equal keys only if they are versions of the same thing."""
    entities = entities_of(state)

    assert len({key_of(entity) for entity in entities}) == len(entities) == 19
