"""What an instance that was removed is told, on which streams, how often, and how they end."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.errors import PermissionDenied
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.state import State
from control_plane.model.tombstones import drop_ended_tombstones
from control_plane.names import AppGuid, InstanceGuid
from control_plane.nodes import LiveStream
from control_plane.planner import NAME_TABLE, NAME_TABLE_TYPE
from control_plane.reconciler.membership import farewells as module
from control_plane.reconciler.membership.farewells import LATE_SECONDS
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from control_plane.xds.snapshot import TypeSnapshot
from tests.unit.model.world import A, B, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Peer, World

B0 = InstanceGuid("b0")
LISTENERS = {"listener-8080-61001", "listener-8080-61443"}
CLUSTERS = {"service-cluster-8080"}
HAD = {CLUSTER: dict.fromkeys(CLUSTERS, "old"), LISTENER: dict.fromkeys(LISTENERS, "old")}


@pytest.fixture
def state() -> State:
    """Return two apps, one of them with an instance."""
    return register(world("a", "b"), B0, B, "10.0.1.1")


def again(around: World, app: AppGuid = B) -> None:
    """Register the instance that was removed, for an app."""
    around.commit(register_instance(around.state, B0, app, "10.0.1.1"))


def remove(around: World) -> None:
    """Remove the instance."""
    around.commit(remove_instance(around.state, B0))


def is_over(live: LiveStream) -> bool:
    """Tell whether a stream was ended, which is for one reason only."""
    if not live._ended.is_set():
        return False
    assert isinstance(live.ended_by, PermissionDenied)
    assert str(live.ended_by) == "this instance was removed"
    return True


def removed_in(replies: list[Reply]) -> set[str]:
    """Return the names that replies take away; they give nothing."""
    assert not any(reply.resources for reply in replies)
    return {name for reply in replies for name in reply.removed}


def back(around: World) -> Peer:
    """Open a stream for an Envoy that says what it has, and asks for its secrets as ever."""
    peer = around.connect(B0)
    for type_url, has in HAD.items():
        peer.ask(type_url, has=has)
    peer.ask(SECRET, C2C_SECRET, ID_SECRET)
    return peer


def told(peer: Peer) -> set[str]:
    """Let a client accept all that is said until there is no more, and return what it lost."""
    names: set[str] = set()
    while replies := peer.receive():
        names |= removed_in(replies)
        peer.ack()
    return names


async def test_a_removed_instance_loses_its_ports_and_then_its_streams(state: State) -> None:
    """Its keys are forgotten at once; its stream ends when it ACKed that nothing listens."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    remove(around)
    assert around.custody.get(B0, C2C_SECRET) is None

    assert removed_in(peer.receive()) == LISTENERS
    peer.ack()
    assert not is_over(peer.live)
    assert removed_in(peer.receive()) == CLUSTERS
    peer.ack()

    assert is_over(peer.live)
    assert peer.receive() == []
    peer.close()
    assert around.nodes.snapshot(B0) is None


async def test_a_removed_instance_that_does_not_answer_is_cut_off(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has some seconds to let go of its ports, and then no stream any more."""
    monkeypatch.setattr(module, "BOUND_SECONDS", 0.01)
    around = World(state)
    peer = around.connect(B0).as_envoy()
    remove(around)
    async with asyncio.timeout(5):
        await peer.live.ended()

    assert is_over(peer.live)


async def test_each_stream_of_a_removed_instance_ends_by_itself(state: State) -> None:
    """A resolver that has no names any more need not wait for the Envoy, nor the other way."""
    around = World(state)
    envoy, resolver = around.connect(B0).as_envoy(), around.connect(B0).as_resolver()
    remove(around)

    assert told(resolver) == {NAME_TABLE}
    assert is_over(resolver.live)
    assert not is_over(envoy.live)
    assert told(envoy) == LISTENERS | CLUSTERS
    assert is_over(envoy.live)


async def test_who_has_nothing_that_could_be_withdrawn_is_sent_away_at_once(state: State) -> None:
    """The listener of an Envoy that asks for its certificate only is its own."""
    around = World(state)
    peer = around.connect(B0).as_static_envoy()
    remove(around)

    assert is_over(peer.live)


async def test_who_was_sent_nothing_yet_is_sent_away_at_once(state: State) -> None:
    """It says that it has nothing, so there is nothing that it could ACK."""
    around = World(state)
    peer = around.connect(B0)
    peer.ask(CLUSTER)
    peer.ask(LISTENER)
    remove(around)

    assert is_over(peer.live)


async def test_an_envoy_that_asked_for_clusters_only_has_time_to_ask_for_more(state: State) -> None:
    """It is about to start, and asks for its listeners next."""
    around = World(state)
    peer = around.connect(B0)
    peer.ask(CLUSTER)
    peer.settle()
    remove(around)
    assert told(peer) == CLUSTERS
    assert not is_over(peer.live)

    peer.ask(LISTENER)
    assert told(peer) == set()

    assert is_over(peer.live)


async def test_an_instance_that_was_never_connected_is_removed_without_ado(state: State) -> None:
    """There is nobody to tell yet."""
    around = World(state)
    remove(around)

    assert around.nodes.all_streams() == ()
    assert around.nodes.snapshot(B0) is None
    assert around.reconciler.farewells.awaits(B0)


async def test_whose_streams_break_before_it_was_told_is_told_when_it_comes_back(
    state: State,
) -> None:
    """Nothing is left of it until then, and no secret is sent then."""
    around = World(state)
    first = around.connect(B0).as_envoy()
    remove(around)
    first.close()
    assert around.nodes.snapshot(B0) is None

    peer = back(around)
    assert told(peer) == LISTENERS | CLUSTERS

    assert is_over(peer.live)


async def test_who_was_away_when_it_was_removed_is_told_when_it_comes_back(state: State) -> None:
    """Its streams had ended for another reason; what was planned for it is gone at once."""
    around = World(state)
    around.connect(B0).as_envoy().close()
    assert around.nodes.snapshot(B0) is not None
    remove(around)
    assert around.nodes.snapshot(B0) is None

    peer = back(around)
    assert told(peer) == LISTENERS | CLUSTERS

    assert is_over(peer.live)


async def test_who_comes_back_after_a_restart_is_told(state: State) -> None:
    """Nothing is known of what it had, and it says so itself."""
    before = World(state)
    remove(before)
    around = World(before.state, after=before)
    peer = back(around)
    assert told(peer) == LISTENERS | CLUSTERS

    assert is_over(peer.live)
    peer.close()
    assert around.nodes.snapshot(B0) is None


async def test_who_comes_back_while_another_stream_is_told_gets_no_secret(state: State) -> None:
    """What the first one has is kept for it alone, and not given to anybody who asks."""
    around = World(state)
    around.connect(B0).as_envoy()
    remove(around)
    peer = around.connect(B0)
    peer.ask(SECRET, C2C_SECRET, ID_SECRET)
    assert peer.receive() == []

    peer.ask(LISTENER, has=HAD[LISTENER])
    assert told(peer) == LISTENERS
    assert is_over(peer.live)


async def test_a_client_that_asks_for_all_has_heard_all(state: State) -> None:
    """One that is Envoy and resolver at once is told on one stream, and as neither again."""
    around = World(state)
    remove(around)
    peer = back(around)
    peer.ask(NAME_TABLE_TYPE, NAME_TABLE)
    assert told(peer) == LISTENERS | CLUSTERS | {NAME_TABLE}
    assert is_over(peer.live)

    for type_url in (CLUSTER, SECRET, NAME_TABLE_TYPE):
        other = around.connect(B0)
        other.ask(type_url, "name")
        assert is_over(other.live)


async def test_who_was_told_is_sent_away_with_its_first_request(state: State) -> None:
    """Its resolver is told all the same, once."""
    around = World(state)
    remove(around)
    told(back(around))
    peer = around.connect(B0)
    assert not is_over(peer.live)
    peer.ask(CLUSTER)
    assert is_over(peer.live)

    resolver = around.connect(B0)
    resolver.ask(NAME_TABLE_TYPE, NAME_TABLE)
    assert told(resolver) == {NAME_TABLE}
    assert is_over(resolver.live)
    other = around.connect(B0)
    other.ask(NAME_TABLE_TYPE, NAME_TABLE)
    assert is_over(other.live)


async def test_the_door_is_shut_some_time_after_the_envoy_was_told(state: State) -> None:
    """Not before, however often others came, and not at once, since its resolver may be late."""
    around = World(state)
    awaits = around.reconciler.farewells.awaits
    remove(around)
    resolver = around.connect(B0)
    resolver.ask(NAME_TABLE_TYPE, NAME_TABLE)
    told(resolver)
    await around.clock.advance(2 * LATE_SECONDS)
    assert awaits(B0)

    told(back(around))
    assert awaits(B0)
    await around.clock.advance(LATE_SECONDS)

    assert not awaits(B0)


async def test_who_says_that_it_has_nothing_need_not_come_again(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In state of the world it is sent nothing then, so it ACKs nothing before its time is up."""
    monkeypatch.setattr(module, "BOUND_SECONDS", 0.01)
    around = World(state)
    remove(around)
    peer = around.connect(B0)
    for url in (CLUSTER, LISTENER):
        request = SotwRequest(url, version_info=TypeSnapshot.of().version)
        events = peer.live.stream.receive(request, around.clock.monotonic())
        around.nodes.told(peer.live, events)
    assert peer.receive() == []
    assert not is_over(peer.live)
    async with asyncio.timeout(5):
        await peer.live.ended()
    await around.clock.advance(LATE_SECONDS)

    assert not around.reconciler.farewells.awaits(B0)


async def test_who_did_not_answer_is_told_again(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Envoy that was stopped for a while may serve still."""
    monkeypatch.setattr(module, "BOUND_SECONDS", 0.01)
    around = World(state)
    remove(around)
    async with asyncio.timeout(5):
        await back(around).live.ended()

    monkeypatch.undo()
    peer = back(around)
    assert not is_over(peer.live)
    assert told(peer) == LISTENERS | CLUSTERS


async def test_an_instance_that_is_registered_again_keeps_its_streams(state: State) -> None:
    """Removed and put back before it answered, it is planned for as if nothing had happened."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    async with around.running():
        remove(around)
        peer.receive()
        time_is_up = around.reconciler.farewells._timers[peer.live]
        again(around)
        assert time_is_up.cancelled()
        await settled()
        peer.ack()
        peer.settle()
        await settled()

        assert not is_over(peer.live)
        assert around.nodes.snapshot(B0) is not None
        assert around.reconciler.standing.is_current(B0)
        peer.close()
        assert around.nodes.snapshot(B0) is not None


async def test_an_instance_that_is_registered_and_removed_again_loses_its_ports_all_the_same(
    state: State,
) -> None:
    """Within one farewell it was planned for once more, which must not be what it is left with."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    async with around.running():
        remove(around)
        again(around)
        await settled()
        remove(around)
        await settled()

        snapshot = around.nodes.snapshot(B0)
        assert snapshot is not None
        assert not snapshot.of_type(LISTENER).resources
        assert removed_in(peer.receive()) == LISTENERS
        peer.settle()
        await settled()

        assert is_over(peer.live)


async def test_who_was_told_and_is_registered_again_is_told_again_when_it_is_removed(
    state: State,
) -> None:
    """It had its listeners again meanwhile."""
    around = World(state)
    async with around.running():
        remove(around)
        told(back(around))
        again(around)
        peer = around.connect(B0).as_envoy()
        assert not is_over(peer.live)
        remove(around)

        assert told(peer) == LISTENERS | CLUSTERS
        assert is_over(peer.live)


async def test_a_stream_of_one_app_is_not_kept_for_another(state: State) -> None:
    """Whoever is registered by the same GUID for another app is somebody else."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    remove(around)
    again(around, A)

    assert is_over(peer.live)


async def test_when_nobody_can_come_back_nothing_is_left(state: State) -> None:
    """With the tombstone it is forgotten who was told."""
    around = World(state)
    remove(around)
    peer = back(around)
    told(peer)
    peer.close()
    (left,) = around.state.all_tombstones()
    around.commit(drop_ended_tombstones(around.state, left.ends_at))

    farewells = around.reconciler.farewells
    assert not farewells._told
    assert not farewells._timers
    assert around.nodes.snapshot(B0) is None


async def test_who_is_being_told_when_nobody_can_come_back_leaves_nothing(state: State) -> None:
    """Its identity ends just then; its stream does too, and what was said on it is forgotten."""
    around = World(state)
    remove(around)
    peer = back(around)
    (left,) = around.state.all_tombstones()
    around.commit(drop_ended_tombstones(around.state, left.ends_at))
    assert is_over(peer.live)
    peer.close()

    farewells = around.reconciler.farewells
    assert not farewells._told
    assert not farewells._timers
    assert around.nodes.snapshot(B0) is None
