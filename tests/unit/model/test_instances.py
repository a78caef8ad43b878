"""Instances: their indexes, who holds an address, and whom a change of one concerns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.errors import AlreadyExists, InvalidArgument, NotFound
from control_plane.model.entities import Instance, InstanceStatus, Transport
from control_plane.model.instances import (
    move_instance,
    register_instance,
    remove_absent,
    remove_instance,
    set_status,
)
from control_plane.model.state import State
from control_plane.names import Address, InstanceGuid
from tests.unit.model.world import A, B, C, allow, register, sources_of, world

A0, A1, B0 = (InstanceGuid(name) for name in ("a0", "a1", "b0"))


@pytest.fixture
def state() -> State:
    """Return app a with two instances and app b with one."""
    state = register(world(), "a0", A, "10.0.0.1")
    return register(register(state, "a1", A, "10.0.0.2"), "b0", B, "10.0.0.3")


def test_an_instance_has_addresses_in_their_canonical_form() -> None:
    """The app is reached at 127.0.0.1 unless said otherwise."""
    decision = register_instance(world(), "a0", A, "2001:DB8::0:1")

    expected = Instance(A0, A, 0, Address("2001:db8::1"), Address("127.0.0.1"))
    assert decision.result == expected
    assert decision.state.instance_at(Address("2001:db8::1")) == expected
    assert register_instance(world(), "a0", A, "2001:db8::1", "").result == expected


def test_an_index_is_the_lowest_that_is_free(state: State) -> None:
    """Indexes count from 0 in each app, and a gap is filled first."""
    assert [instance.index for instance in state.instances_of(A)] == [0, 1]
    assert [instance.index for instance in state.instances_of(B)] == [0]

    state = remove_instance(state, A0).state
    state = register(register(state, "a2", A, "10.0.0.4"), "a3", A, "10.0.0.5")

    indexes = {instance.guid: instance.index for instance in state.instances_of(A)}
    assert indexes == {"a2": 0, "a1": 1, "a3": 2}


@pytest.mark.parametrize("guid", ["a0", "a9"])
def test_registering_twice_is_one_instance(state: State, guid: str) -> None:
    """The same app at the same addresses is the same instance, whatever GUID was proposed."""
    decision = register_instance(state, guid, A, "10.0.0.1")

    assert decision.result.guid == A0
    assert decision.state is state
    assert not decision.change


def test_a_guid_that_is_taken_is_nobody_elses(state: State) -> None:
    """Not even that of the instance of the same app which has the address."""
    with pytest.raises(AlreadyExists, match="instance 'a1' exists with another app or address"):
        register_instance(state, "a1", A, "10.0.0.1")


def test_a_successor_in_the_same_app_takes_the_index_too(state: State) -> None:
    """An instance that replaces one of its own app at the same address has its index."""
    decision = remove_instance(state, A0).then(
        lambda left, _: register_instance(left, "a9", A, "10.0.0.1")
    )

    assert (decision.result.guid, decision.result.index) == ("a9", 0)
    assert decision.change.drops == (state.instance(A0),)


def test_an_instance_keeps_its_index_when_it_moves(state: State) -> None:
    """A new address changes nothing about who the instance is, and frees the old one."""
    decision = move_instance(state, A1, "10.0.0.9")

    assert decision.result == Instance(A1, A, 1, Address("10.0.0.9"), Address("127.0.0.1"))
    assert decision.state.instance_at(Address("10.0.0.2")) is None
    assert decision.state.instance_at(Address("10.0.0.9")) == decision.result
    assert decision.state.instances_of(A)[1] == decision.result


def test_moving_to_the_same_place_changes_nothing(state: State) -> None:
    """Also with the address in another spelling."""
    decision = move_instance(state, A1, "::ffff:10.0.0.2", "127.0.0.1")

    assert decision.state is state
    assert not decision.change


def test_only_the_apps_address_may_move(state: State) -> None:
    """An instance that keeps its own address is not in its own way."""
    decision = move_instance(state, A1, "10.0.0.2", "127.0.0.7")

    assert decision.result.app_address == "127.0.0.7"
    assert decision.change.drops == ()


def test_an_instance_moves_to_a_held_address_only_if_the_holder_is_gone(state: State) -> None:
    """As with registering, one address has one instance."""
    with pytest.raises(AlreadyExists) as caught:
        move_instance(state, A1, "10.0.0.3")
    assert caught.value.field == "address"

    decision = move_instance(state, A1, "10.0.0.3", holder_gone=True)

    assert decision.state.instance_at(Address("10.0.0.3")) == decision.result
    assert decision.change.apps == {A, B}


def test_who_is_gone_gets_the_address_that_became_free(state: State) -> None:
    """Both keep who they are; nobody lets in the one that is gone before it is heard of."""
    before = set_status(state, B0, InstanceStatus.READY).state
    old = before.instances[B0]
    decision = move_instance(before, A1, "10.0.0.3", holder_gone=True)
    left = decision.state.instance(B0)

    assert left == replace(old, address=Address("10.0.0.2"), status=InstanceStatus.GONE)
    assert decision.state.instance_at(Address("10.0.0.2")) == left
    assert decision.change.puts == (left, decision.result)
    assert decision.change.drops == ()


def test_an_instance_that_is_gone_cannot_move(state: State) -> None:
    """A removed instance does not come back by moving."""
    with pytest.raises(NotFound) as caught:
        move_instance(remove_instance(state, A0).state, A0, "10.0.0.9")

    assert (caught.value.rule, caught.value.field) == ("instance 'a0' not found", "guid")


@pytest.mark.parametrize(
    ("address", "app_address", "field"), [("x", "", "address"), ("10.0.0.9", "x", "app_address")]
)
def test_an_instance_moves_to_addresses_only(
    state: State, address: str, app_address: str, field: str
) -> None:
    """What is no address is refused by the field it came in."""
    with pytest.raises(InvalidArgument, match="not an IP address: 'x'") as caught:
        move_instance(state, A0, address, app_address)

    assert caught.value.field == field


def test_a_status_concerns_whom_the_instance_concerns(state: State) -> None:
    """Names lead to it or not, and others admit it or not; all else about it stays."""
    state = allow(allow(state, A, B), C, A)

    decision = set_status(state, A0, InstanceStatus.READY)

    assert decision.result == replace(state.instances[A0], status=InstanceStatus.READY)
    assert decision.state.instances_of(A)[0] == decision.result
    assert decision.change.apps == {A, B, C}


def test_a_status_that_is_true_already_changes_nothing(state: State) -> None:
    """Nor does one of an instance that was removed meanwhile."""
    same = set_status(state, A0, InstanceStatus.REGISTERED)
    unknown = set_status(state, InstanceGuid("a9"), InstanceStatus.READY)

    assert same.state is unknown.state is state
    assert (same.result, unknown.result) == (state.instance(A0), None)


@pytest.mark.parametrize(("spoke", "resolves"), [(True, False), (False, True)])
def test_what_an_instance_ever_had_is_remembered(
    state: State, *, spoke: bool, resolves: bool
) -> None:
    """It is told again later or not; that alone concerns nobody's resources."""
    status = InstanceStatus.REGISTERED
    told = set_status(state, A0, status, has_sidecar=spoke, has_resolver=resolves)
    later = set_status(told.state, A0, InstanceStatus.READY)
    again = set_status(
        later.state, A0, InstanceStatus.READY, has_sidecar=spoke, has_resolver=resolves
    )

    assert told.result == replace(state.instances[A0], has_sidecar=spoke, has_resolver=resolves)
    assert told.change.apps == frozenset()
    assert later.result == replace(told.state.instances[A0], status=InstanceStatus.READY)
    assert again.state is later.state


def test_a_moved_instance_is_not_ready_at_its_new_address_yet(state: State) -> None:
    """No name may lead there before its Envoy listens there; all else goes on as it was."""
    was = set_status(state, A0, InstanceStatus.READY, has_sidecar=True, has_resolver=True)

    moved = move_instance(was.state, A0, "10.0.0.9").result
    stayed = move_instance(was.state, A0, "10.0.0.1", "10.0.0.8").result
    gone = set_status(was.state, A0, InstanceStatus.GONE).state

    assert moved.status is InstanceStatus.NOT_READY
    assert (moved.has_sidecar, moved.has_resolver, moved.index) == (True, True, 0)
    assert stayed.status is InstanceStatus.READY
    assert move_instance(gone, A0, "10.0.0.9").result.status is InstanceStatus.GONE


@pytest.mark.parametrize("status", list(InstanceStatus))
def test_only_an_instance_that_is_gone_may_not_call(state: State, status: InstanceStatus) -> None:
    """Its address may be somebody else's by now; before that it counts as a source."""
    state = set_status(allow(state, A, B), A0, status).state

    called = Address("10.0.0.1") in sources_of(state, B, Transport.TCP, 61443)
    assert called is (status is not InstanceStatus.GONE)


def test_removing_an_instance_frees_its_address(state: State) -> None:
    """A removed instance leaves nothing behind."""
    decision = remove_instance(state, B0)

    assert decision.result == state.instance(B0)
    assert decision.state.instance_at(Address("10.0.0.3")) is None
    assert decision.state.instances_of(B) == ()


def test_removing_an_instance_twice_is_removing_it_once(state: State) -> None:
    """An instance that is not there is no error."""
    decision = remove_instance(state, InstanceGuid("a9"))

    assert decision.result is None
    assert decision.state is state


def test_an_instance_concerns_the_apps_at_both_ends_of_its_policies(state: State) -> None:
    """Its own app, those that admit its address, and those whose name tables list it."""
    state = allow(allow(state, A, B), C, A)

    registered = register_instance(state, "a2", A, "10.0.0.4")
    moved = move_instance(registered.state, InstanceGuid("a2"), "10.0.0.5")
    removed = remove_instance(moved.state, InstanceGuid("a2"))

    assert registered.change.apps == {A, B, C}
    assert moved.change.apps == removed.change.apps == {A, B, C}


@pytest.mark.parametrize("came", [InstanceStatus.READY, InstanceStatus.NOT_READY])
@pytest.mark.parametrize("absent", [InstanceStatus.GONE, InstanceStatus.REGISTERED])
def test_of_those_who_were_absent_only_who_still_is_is_forgotten(
    state: State, absent: InstanceStatus, came: InstanceStatus
) -> None:
    """Who came meanwhile, or was removed already, is left alone."""
    state = allow(state, A, B)
    state = set_status(state, A0, absent).state
    state = set_status(state, A1, came).state

    decision = remove_absent(state, [A0, A1, InstanceGuid("a9")])

    assert [each.guid for each in decision.result] == [A0]
    assert decision.change.apps == {A, B}
    assert set(decision.state.instances) == {A1, B0}
    assert remove_absent(decision.state, [A0, A1]).state is decision.state
