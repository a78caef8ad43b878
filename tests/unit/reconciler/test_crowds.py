"""A crowd that comes back: what each of it is sent before its turn, and at it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from control_plane.model.policies import PolicySpec, remove_policies
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.planner import NAME_TABLE, NAME_TABLE_TYPE
from control_plane.reconciler import backlog
from control_plane.reconciler.certificates.renewals import RETRY
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.tls_pairs import leaf_in
from tests.unit.model.world import A, B, allow, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Peer, World

B0 = InstanceGuid("b0")
FROM_A0 = b"10.0.0.1"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> State:
    """Return app ``a`` that may reach app ``b``, one instance each; whoever comes is a crowd."""
    monkeypatch.setattr(backlog, "CROWD", 1)
    state = register(register(world("a", "b"), "a0", A, "10.0.0.1"), "b0", B, "10.0.1.1")
    return allow(state, A, B)


def unreachable(made: World) -> None:
    """Take away the policy by which a reaches b."""
    made.commit(remove_policies(made.state, [PolicySpec(A, B, "tcp", 61443, 61443)]))


async def there(made: World) -> Peer:
    """Return a client of b0 that has all that it should have."""
    peer = made.connect("b0")
    await settled()
    return peer.as_envoy()


def ask_again(made: World, has: Mapping[tuple[TypeUrl, str], Resource]) -> Peer:
    """Open a stream for b0, on which it asks at once for all that it had."""
    peer = made.connect("b0")
    for url in (CLUSTER, LISTENER):
        peer.ask(url, has={name: each.version for (of, name), each in has.items() if of == url})
    secrets = {name: each.version for (of, name), each in has.items() if of == SECRET}
    peer.ask(SECRET, C2C_SECRET, ID_SECRET, has=secrets)
    return peer


async def test_who_comes_back_in_a_crowd_is_sent_nothing_of_the_past(state: State) -> None:
    """A source that may connect no more is in no listener, however soon it asks."""
    made = World(state)
    async with made.running():
        peer = await there(made)
        assert any(FROM_A0 in each.body for each in peer.has.values())
        peer.close()
        unreachable(made)
        await settled()

        back = ask_again(made, {})
        assert back.receive() == []
        assert not made.reconciler.standing.is_current(B0)
        await settled()
        back.settle()

    assert {url for url, _ in back.has} >= {LISTENER, SECRET}
    assert not any(FROM_A0 in each.body for each in back.has.values())


async def test_the_second_process_is_asked_for_what_is_due_alone(state: State) -> None:
    """Who comes back with certificates that are right costs it nothing."""
    made = World(state)
    async with made.running():
        assert set(made.reconciler._due(B0)) == {C2C_SECRET, ID_SECRET}
        await there(made)
        assert made.reconciler._due(B0) == {}


async def test_a_certificate_that_is_over_is_not_sent_to_a_crowd(state: State) -> None:
    """Who was away for longer than it lived gets the next one, and only that."""
    made = World(state, lifetime=timedelta(minutes=1))
    async with made.running():
        peer = await there(made)
        peer.close()
        await made.clock.advance(120)

        back = ask_again(made, {})
        assert back.receive() == []
        await settled()
        back.settle()

    assert made.leaf("b0").not_after > made.clock.now()
    assert made.leaf("b0") == leaf_in(back.has[SECRET, C2C_SECRET])


async def test_who_comes_back_as_it_was_is_told_nothing_new(state: State) -> None:
    """The plan of its turn is the one that it had: nothing changes but that it is asked for."""
    made = World(state)
    async with made.running():
        peer = await there(made)
        before = made.nodes.snapshot("b0")
        peer.close()

        back = ask_again(made, peer.has)
        await settled()
        sent = {(r.type_url, each.name) for r in back.receive() for each in r.resources}
        back.settle()

        assert made.nodes.snapshot("b0") is before
        assert made.reconciler.standing.is_current(B0)
    assert sent <= {(SECRET, C2C_SECRET), (SECRET, ID_SECRET)}
    assert back.has.items() <= peer.has.items()


async def test_what_it_refused_is_remembered_in_a_crowd(state: State) -> None:
    """It is not sent what it refused on a stream before."""
    made = World(state)
    async with made.running():
        peer = await there(made)
        made.commit(mapping(made.state, B, "api"))
        await settled()
        peer.receive()
        peer.nack("no")
        peer.close()

        back = ask_again(made, {})
        await settled()
        back.settle()

        assert (SECRET, C2C_SECRET) not in back.has
        assert (SECRET, ID_SECRET) in back.has
        assert not made.reconciler.standing.is_current(B0)


async def test_another_stream_of_who_is_there_is_answered_at_once(state: State) -> None:
    """It was planned for all the time, and neither of its streams waits for a turn."""
    made = World(state)
    async with made.running():
        first = await there(made)
        second = made.connect("b0")
        second.ask(SECRET, ID_SECRET)
        assert second.receive()

        made.commit(mapping(made.state, B, "api"))
        await settled()
        assert first.receive()


async def test_two_streams_of_who_comes_back_wait_for_the_same_turn(state: State) -> None:
    """The second of them, such as that of a service of one type, is no way around it."""
    made = World(state)
    async with made.running():
        (await there(made)).close()
        unreachable(made)
        await settled()

        listeners, secrets = made.connect("b0"), made.connect("b0")
        listeners.ask(LISTENER)
        secrets.ask(SECRET, C2C_SECRET)
        assert listeners.receive() == secrets.receive() == []
        await settled()
        listeners.settle()
        secrets.settle()

    assert not any(FROM_A0 in each.body for each in listeners.has.values())
    assert (SECRET, C2C_SECRET) in secrets.has


async def test_a_resolver_that_comes_back_in_a_crowd_gets_the_names_of_now(state: State) -> None:
    """Its names are looked up when it asks for them, and it is sent no others."""
    made = World(state)
    async with made.running():
        peer = await there(made)
        made.ready("b0")
        made.connect("a0").as_resolver().close()
        made.commit(mapping(made.state, B, "api"))
        await settled()
        peer.settle()
        await settled()

        resolver = made.connect("a0").as_resolver()

    assert b"api.apps.internal" in resolver.has[NAME_TABLE_TYPE, NAME_TABLE].body


@pytest.mark.parametrize("is_crowd", [True, False], ids=["in a crowd", "alone"])
async def test_who_comes_back_and_cannot_be_planned_for_is_sent_nothing_of_the_past(
    state: State, monkeypatch: pytest.MonkeyPatch, *, is_crowd: bool
) -> None:
    """A policy went while it was away, and its old listener still admits who had that."""
    made = World(state)
    async with made.running():
        (await there(made)).close()
        unreachable(made)
        plan = made.planner.plan
        monkeypatch.setattr(made.planner, "plan", None)  # a defect: to call it fails
        if not is_crowd:
            monkeypatch.setattr(backlog, "CROWD", 1000)

        back = ask_again(made, {})
        await settled()
        back.settle()
        assert made.reconciler.standing.plan_failure(B0)
        assert not back.has

        monkeypatch.setattr(made.planner, "plan", plan)
        await made.clock.advance(RETRY.total_seconds() + 1)
        back.settle()

    assert {url for url, _ in back.has} >= {LISTENER, SECRET}
    assert not any(FROM_A0 in each.body for each in back.has.values())


async def test_who_lost_what_is_only_recorded_gets_another_at_its_turn(state: State) -> None:
    """It asked before there was a plan that shows its loss, and does not ask again."""
    first = World(state)
    async with first.running():
        await there(first)
    second = World(state, after=first)
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, C2C_SECRET)
        await settled()
        peer.settle()

        assert (SECRET, C2C_SECRET) in peer.has
        assert second.reconciler.standing.is_current(B0)
