"""The loop that brings every connected node to its plan: whom a change reaches, and what if not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
import structlog

from control_plane.api.v1 import name_table_pb2
from control_plane.ca.profile import MAX_BACKDATE
from control_plane.errors import MessageError
from control_plane.model.change import Change
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.instances import register_instance, remove_instance, set_status
from control_plane.model.routes import unmap_route
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.planner import (
    NAME_TABLE,
    NAME_TABLE_TYPE,
    NOTHING_GONE,
    Gone,
    Planner,
    PlanOptions,
    PublishedNames,
    SecretContent,
    UncertifiedNames,
    none_uncertified,
)
from control_plane.reconciler import backlog
from control_plane.reconciler.certificates import foresight
from control_plane.reconciler.certificates.renewals import LONGEST_RETRY, RETRY
from control_plane.reconciler.publication.names import LINGER_SECONDS
from control_plane.reconciler.publication.uncertified import TOGETHER_SECONDS
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from control_plane.xds.snapshot import Snapshot
from tests.tls_pairs import leaf_in
from tests.unit.model.world import A, B, allow, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.worlds import C2C_SECRET, Peer, World, authority

B0 = InstanceGuid("b0")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def state() -> State:
    """Return app ``a`` that may reach app ``b``, and an app ``c``; one instance each, two of b."""
    state = register(world("a", "b", "c"), "a0", A, "10.0.0.1")
    state = register(register(state, "b0", B, "10.0.1.1"), "b1", B, "10.0.1.2")
    return allow(state, A, B)


def resolved(state: State) -> tuple[World, Peer]:
    """Return a world in which ``b0`` and ``b1`` are ready, and the resolver of ``a0``."""
    around = World(state)
    for guid in ("b0", "b1"):
        around.ready(guid)
    return around, around.connect("a0").as_resolver()


def names_of(peer: Peer) -> list[str]:
    """Return the names in the table that a resolver accepted last."""
    body = peer.has[NAME_TABLE_TYPE, NAME_TABLE].body
    return [each.name for each in name_table_pb2.NameTable.FromString(body).names]


async def names_by_now(resolver: Peer) -> list[str]:
    """Let everything happen that is due, and return the names that a resolver has by then."""
    await settled()
    resolver.settle()
    return names_of(resolver)


async def map_to_b(around: World, host: str) -> None:
    """Map a route to b, and let everything happen that follows."""
    around.commit(mapping(around.state, B, host))
    await settled()


class Unable(Planner):
    """A planner that fails for one instance while the test says so."""

    is_unable = True
    failure: Exception = RuntimeError("a defect of the planner")

    def plan(
        self,
        state: State,
        instance: Instance,
        secrets: Mapping[str, SecretContent],
        published: PublishedNames | None,
        uncertified: UncertifiedNames = none_uncertified,
        gone: Gone = NOTHING_GONE,
    ) -> Snapshot:
        """Plan for everybody but b0."""
        if self.is_unable and instance.guid == B0:
            raise self.failure
        return super().plan(state, instance, secrets, published, uncertified, gone)


async def test_a_node_is_planned_for_when_it_connects(state: State) -> None:
    """Its first request finds its answer, while nobody else's certificate is issued."""
    around = World(state)

    peer = around.connect("b0").as_envoy()

    assert {name for url, name in peer.has if url in (LISTENER, SECRET)} == {
        "listener-8080-61001",
        "listener-8080-61443",
        "c2c-cert-and-key",
        "id-cert-and-key",
    }
    assert around.custody.get(InstanceGuid("b1"), C2C_SECRET) is None
    assert around.reconciler.is_connected(B0)
    assert not around.reconciler.is_connected(InstanceGuid("b1"))


async def test_a_change_reaches_those_whom_it_concerns(state: State) -> None:
    """A route of b changes the certificates of b's instances, and of nobody else."""
    around = World(state)
    peers = [around.connect(guid).as_envoy() for guid in ("a0", "b0", "b1")]
    async with around.running():
        await map_to_b(around, "api")

        told = [[name for reply in peer.receive() for name in _names(reply)] for peer in peers]

    assert told == [[], [C2C_SECRET], [C2C_SECRET]]
    assert "api.apps.internal" in around.leaf("b1").san.dns


def _names(reply: object) -> list[str]:
    return [each.name for each in getattr(reply, "resources", ())]


async def test_certificates_are_issued_while_a_route_is_written(state: State) -> None:
    """Of those who are connected, and nobody has them before the route is on the disk."""
    around = World(state)
    peer = around.connect("b0").as_envoy()
    before = around.leaf("b0")
    async with around.running():
        made, mapped = around.made_here, mapping(around.state, B, "api")
        around.reconciler.foresight.foreseen(mapped.state, mapped.change)
        await settled()
        assert around.made_here == made + 1
        assert around.leaf("b0") == before
        assert not peer.receive()

        around.commit(mapped)
        await settled()

        (reply,) = peer.receive()
    assert around.made_here == made + 1
    assert _names(reply) == [C2C_SECRET]
    assert "api.apps.internal" in around.leaf("b0").san.dns


async def test_a_route_that_is_not_written_is_in_no_certificate(state: State) -> None:
    """The next one has what was written only, and its certificate is made for it."""
    around = World(state)
    around.connect("b0").as_envoy()
    async with around.running():
        lost, mapped = (mapping(around.state, B, host) for host in ("lost", "api"))
        around.reconciler.foresight.foreseen(lost.state, lost.change)
        assert around.custody._foreseen
        around.reconciler.foresight.foreseen(around.state, Change())
        assert not around.custody._foreseen, "no key is kept of what nobody will want"
        around.reconciler.foresight.foreseen(lost.state, lost.change)
        around.reconciler.foresight.foreseen(mapped.state, mapped.change)
        around.commit(mapped)
        await settled()

    assert "api.apps.internal" in around.leaf("b0").san.dns
    assert "lost.apps.internal" not in around.leaf("b0").san.dns


@pytest.mark.parametrize("why", ["a policy", "a crowd", "no time", "removed by then"])
async def test_no_certificate_is_issued_ahead_for_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Only for routes, for as long as a disk takes, and for whom nobody waits longer by it."""
    around = World(state)
    around.connect("b0").as_envoy()
    change, after = mapping(state, B, "api").change, mapping(state, B, "api").state
    if why == "a policy":
        after = allow(state, B, A)
        change = Change(apps=change.apps)
    elif why == "a crowd":
        monkeypatch.setattr(backlog, "CROWD", 0)
    elif why == "no time":
        monkeypatch.setattr(foresight, "FORESEEN_SECONDS", 0)
    else:
        after = remove_instance(after, B0).state

    made = around.made_here
    around.reconciler.foresight.foreseen(after, change)

    assert around.made_here == made


async def test_changes_that_come_together_are_one(state: State) -> None:
    """Of a hundred routes mapped at once an instance gets one certificate, with all of them."""
    around = World(state)
    peer = around.connect("b0").as_envoy()
    first = around.leaf("b0").serial
    async with around.running():
        for number in range(100):
            around.commit(mapping(around.state, B, f"host-{number}"))
        await settled()

        (reply,) = peer.receive()

    assert _names(reply) == [C2C_SECRET]
    assert len(around.leaf("b0").san.dns) == 201
    # The serials in between were never used: b0 has two secrets, then this one.
    assert around.leaf("b0").serial == first + 2


async def test_a_new_source_is_admitted_by_itself(state: State) -> None:
    """An instance that joins the source app changes the listeners of the destination."""
    around = World(state)
    peer = around.connect("b0").as_envoy()
    async with around.running():
        around.commit(register_instance(around.state, "a1", A, "10.0.0.2"))
        await settled()
        peer.settle()

    assert b"10.0.0.2" in peer.has[LISTENER, "listener-8080-61443"].body


async def test_a_certificate_is_renewed_when_its_moment_has_come(state: State) -> None:
    """At half life, within a second, for an instance that is connected."""
    around = World(state, lifetime=MINUTE)
    peer = around.connect("b0").as_envoy()
    first = around.leaf("b0")
    held = around.custody.get(B0, C2C_SECRET)
    assert held is not None
    async with around.running():
        before = (held.renew_at - around.clock.now()).total_seconds()
        await around.clock.advance(before - 1)
        assert around.leaf("b0") == first

        await around.clock.advance(2)
        peer.settle()
        second = around.leaf("b0")
        assert second.serial != first.serial
        assert leaf_in(peer.has[SECRET, C2C_SECRET]) == second

        await around.clock.advance(MINUTE.total_seconds())
        assert around.leaf("b0").not_after > second.not_after


async def test_another_ca_reaches_everybody_each_at_a_turn(state: State) -> None:
    """Who is connected gets new certificates, spread over time; who is away when it comes back."""
    guids = [f"c{number}" for number in range(400)]
    for number, guid in enumerate(guids):
        state = register(state, guid, B, f"10.1.{number // 200}.{number % 200 + 1}")
    around = World(state)
    async with around.running():
        for guid in guids[:-1]:
            around.connect(guid)
        await around.clock.advance(1)
        before = {guid: around.leaf(guid).serial for guid in guids[:-1]}
        around.authority = authority()
        around.reconciler.authority_changed(around.clock.now())
        found = [0]
        while found[-1] < len(before):
            await around.clock.advance(1)
            await settled()
            found.append(sum(around.leaf(each).serial != before[each] for each in before))
        steps = [after - earlier for earlier, after in pairwise(found)]

        assert 4 <= len(steps) <= 6
        assert max(steps) < len(guids) / 2
        around.connect(guids[-1])
        assert (
            around.records[InstanceGuid(guids[-1]), C2C_SECRET].issuer
            == around.authority.fingerprint
        )


async def test_who_is_away_is_renewed_when_it_comes_back(state: State) -> None:
    """Nothing is issued for nobody."""
    around = World(state, lifetime=MINUTE)
    peer = around.connect("b0").as_envoy()
    first = around.leaf("b0")
    async with around.running():
        peer.close()
        await around.clock.advance(50)
        assert around.leaf("b0") == first

        around.connect("b0")

        assert around.leaf("b0").serial != first.serial


async def test_a_certificate_that_cannot_be_issued_is_tried_again(state: State) -> None:
    """The old one stays, the instance counts as behind, and soon all is well by itself."""
    around = World(state)
    peer = around.connect("b0").as_envoy()
    first = around.leaf("b0")
    async with around.running():
        around.serials.are_bad = True
        await map_to_b(around, "api")

        assert peer.receive() == []
        assert around.leaf("b0") == first
        assert not around.reconciler.standing.is_current(B0)
        assert around.reconciler.publication.published(B) == ()

        waiting = asyncio.create_task(around.reconciler.waiters.wait([B0], 30))
        await around.clock.advance(2 * RETRY.total_seconds())
        assert not waiting.done()
        around.serials.are_bad = False
        await around.clock.advance(RETRY.total_seconds() + 1)
        peer.settle()

        assert await waiting == frozenset()
        assert "api.apps.internal" in around.leaf("b0").san.dns
        await settled()
        assert around.reconciler.publication.published(B) == ("api.apps.internal",)


async def test_a_clock_that_is_set_back_leaves_nobody_with_a_certificate_of_the_future(
    state: State,
) -> None:
    """What was issued while the clock was ahead is not valid yet for anybody else."""
    around = World(state)
    around.clock.set(timedelta(days=1))
    around.connect("b0").as_envoy()
    first = around.leaf("b0")
    async with around.running():
        await around.clock.advance(2)
        around.clock.set(timedelta(days=-1))
        assert first.not_before > around.clock.now()
        await around.clock.advance(2)

        assert around.leaf("b0").not_before < around.clock.now()
        second = around.leaf("b0")
        around.clock.set(timedelta(seconds=-59))
        await around.clock.advance(2)
        assert around.leaf("b0") == second


async def test_a_jump_of_the_clock_is_told(state: State) -> None:
    """What is issued by a clock that is wrong is refused by others, and nothing else says why."""
    around = World(state)
    jumps: list[datetime] = []
    around.reconciler.on_clock_jump(lambda: jumps.append(around.clock.now()))
    with structlog.testing.capture_logs() as logs:
        async with around.running():
            for by in (timedelta(hours=1), timedelta(hours=-1), timedelta(seconds=59)):
                await around.clock.advance(2)
                around.clock.set(by)
            await around.clock.advance(2)

    told = [each for each in logs if each["event"] == "clock.set"]
    assert [(each["log_level"], each["seconds"]) for each in told] == [
        ("warning", 3600),
        ("warning", -3600),
    ]
    assert len(jumps) == 2


async def test_a_clock_that_was_set_back_while_nobody_ran_is_told(state: State) -> None:
    """Every identity of the run before begins in the future, so nobody gets in to be told of."""
    before = World(state)
    before.clock.set(timedelta(days=1))
    before.connect("b0").as_envoy()
    before.clock.set(timedelta(days=-1))
    after = World(state, after=before)
    with structlog.testing.capture_logs() as logs:
        async with after.running():
            await after.clock.advance(2)

    (told,) = [each for each in logs if each["event"] == "clock.set"]
    assert told["log_level"] == "warning"
    assert told["seconds"] == round((MAX_BACKDATE - timedelta(days=1)).total_seconds())


async def test_a_jump_of_the_clock_is_no_herd(state: State) -> None:
    """Everybody is due at once, and renewed at 500 a second, in whichever second one looks."""
    guids = [f"c{number}" for number in range(600)]
    for number, guid in enumerate(guids):
        state = register(state, guid, B, f"10.1.{number // 200}.{number % 200 + 1}")
    around = World(state)
    for guid in guids:
        around.connect(guid)
    async with around.running():
        before = {guid: around.leaf(guid).serial for guid in guids}
        around.clock.set(timedelta(hours=14))
        renewed = [0]
        for _ in range(26):  # tenths of a second; it may take one second to notice
            await around.clock.advance(0.1)
            renewed.append(sum(around.leaf(each).serial != before[each] for each in guids))

    seconds = [later - earlier for earlier, later in zip(renewed, renewed[10:], strict=False)]
    assert max(seconds) == 500
    assert renewed[-1] == len(guids)


async def test_what_fails_on_while_the_clock_is_set_back_is_tried_again_soon(state: State) -> None:
    """The moment of its retry was that of a clock that was ahead."""
    around = World(state)
    around.clock.set(timedelta(days=1))
    around.serials.are_bad = True
    around.connect("b0").as_envoy()
    async with around.running():
        await around.clock.advance(2)
        around.clock.set(timedelta(days=-1))
        await around.clock.advance(2)
        around.serials.are_bad = False
        await around.clock.advance(LONGEST_RETRY.total_seconds() + 1)

        assert around.leaf("b0").not_before < around.clock.now()


async def test_a_clock_that_is_set_forward_renews_what_is_due(state: State) -> None:
    """Half of a life may be over from one second to the next."""
    around = World(state)
    around.connect("b0").as_envoy()
    first = around.leaf("b0")
    async with around.running():
        around.clock.set(timedelta(hours=14))
        await around.clock.advance(2)

        assert around.leaf("b0").serial != first.serial
        assert around.leaf("b0").not_after > first.not_after


async def test_an_instance_without_any_certificate_waits_for_it(state: State) -> None:
    """Its listener is there, and its secret is neither sent nor called missing."""
    around = World(state)
    around.serials.are_bad = True
    async with around.running():
        peer = around.connect("b0").as_envoy()
        assert not [name for url, name in peer.has if url == SECRET]
        assert not around.reconciler.standing.is_current(B0)

        around.serials.are_bad = False
        await around.clock.advance(RETRY.total_seconds() + 1)
        peer.settle()

        assert (SECRET, C2C_SECRET) in peer.has
        assert around.reconciler.standing.is_current(B0)


async def test_who_cannot_be_planned_for_keeps_nobody_waiting(state: State) -> None:
    """The others are planned for, and this one again soon."""
    planner = Unable(PlanOptions())
    planner.is_unable = False
    around = World(state, planner=planner)
    peers = {guid: around.connect(guid).as_envoy() for guid in ("b0", "b1")}
    async with around.running():
        planner.is_unable = True
        await map_to_b(around, "api")
        assert peers["b0"].receive() == []
        assert peers["b1"].receive()

        planner.is_unable = False
        await around.clock.advance(RETRY.total_seconds() + 1)

        assert peers["b0"].receive()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (MessageError("a listener has no name"), "a listener has no name"),
        (RuntimeError("0xdeadbeef"), "a defect; the log has it"),
    ],
    ids=["message", "defect"],
)
async def test_who_cannot_be_planned_for_goes_on_with_what_it_had(
    state: State, failure: Exception, told: str
) -> None:
    """That is told, and it is not up to date; who comes back has what it kept, and no more."""
    planner = Unable(PlanOptions())
    planner.is_unable, planner.failure = False, failure
    around = World(state, planner=planner)
    peer = around.connect("b0").as_envoy()
    async with around.running():
        before = around.nodes.snapshot("b0")
        planner.is_unable = True
        await map_to_b(around, "api")
        peer.close()
        peer = around.connect("b0").as_envoy()

        assert around.nodes.snapshot("b0") is before
        assert around.reconciler.standing.plan_failure(B0) == told
        assert not around.reconciler.standing.is_current(B0)

        planner.is_unable = False
        await around.clock.advance(RETRY.total_seconds() + 1)
        peer.settle()
        assert around.reconciler.standing.plan_failure(B0) == ""
        assert around.reconciler.standing.is_current(B0)

        planner.is_unable = True
        around.connect("b0")
        around.commit(remove_instance(around.state, B0))
        assert around.reconciler.standing.plan_failure(B0) == ""


async def test_current_is_who_has_accepted_everything(state: State) -> None:
    """Neither marked, nor told without an answer, nor refused; who is away keeps nobody waiting."""
    around = World(state)
    reconciler = around.reconciler
    assert reconciler.standing.is_current(B0)

    peer = around.connect("b0").as_envoy()
    assert reconciler.standing.is_current(B0)

    async with around.running():
        around.commit(mapping(around.state, B, "api"))
        assert not reconciler.standing.is_current(B0)
        await settled()
        assert not reconciler.standing.is_current(B0)
        peer.receive()
        assert not reconciler.standing.is_current(B0)
        peer.ack()
        assert reconciler.standing.is_current(B0)

        await map_to_b(around, "second")
        peer.receive()
        peer.nack("no")
        assert not reconciler.standing.is_current(B0)

        waiting = asyncio.create_task(reconciler.waiters.wait([B0], 30))
        await settled()
        peer.close()
        assert reconciler.standing.is_current(B0)
        assert await waiting == frozenset()


async def test_a_node_that_nobody_knows_is_not_planned_for(state: State) -> None:
    """A stream of an instance that was removed meanwhile is sent nothing."""
    around = World(state)

    peer = around.connect("gone")
    peer.ask(CLUSTER)

    assert peer.receive() == []
    assert around.reconciler.standing.is_current(InstanceGuid("gone"))


async def test_a_name_is_resolved_after_the_certificate_has_it(state: State) -> None:
    """The resolver of a hears of b's new route once both instances of b ACKed (make)."""
    around, resolver = resolved(state)
    envoys = [around.connect(guid).as_envoy() for guid in ("b0", "b1")]
    async with around.running():
        await settled()
        for peer in (resolver, *envoys):
            peer.settle()
        await map_to_b(around, "api")
        envoys[0].settle()
        assert await names_by_now(resolver) == []

        envoys[1].settle()

        assert (await names_by_now(resolver))[-1] == "api.apps.internal"


async def test_a_resolver_that_comes_late_gets_the_names_as_they_are(state: State) -> None:
    """Whoever resolves nothing is told of no names, and has missed none when it begins to."""
    around = World(state)
    late = around.connect("a0").as_envoy()
    envoys = [around.connect(guid).as_envoy() for guid in ("b0", "b1")]
    for guid in ("b0", "b1"):
        around.ready(guid)
    async with around.running():
        await map_to_b(around, "api")
        before = around.nodes.snapshot("a0")
        for peer in (late, *envoys):
            peer.settle()
        await settled()
        assert around.reconciler.publication.published(B) == ("api.apps.internal",)
        assert around.nodes.snapshot("a0") is before

        late.as_resolver()

        assert names_of(late)[-1] == "api.apps.internal"


async def test_no_table_is_made_for_who_resolves_nothing(state: State) -> None:
    """It is made once a resolver asks for it, and no more once there is none."""
    around = World(state)
    seen = []

    def look() -> None:
        snapshot = around.nodes.snapshot("a0")
        assert snapshot
        seen.append(NAME_TABLE in snapshot.of_type(NAME_TABLE_TYPE).resources)

    around.connect("a0").as_envoy()
    look()
    resolver = around.connect("a0").as_resolver()
    look()
    resolver.close()
    around.connect("a0").as_envoy()
    look()

    assert seen == [False, True, False]


async def test_a_name_leads_to_who_was_away_once_it_has_the_certificate(state: State) -> None:
    """A route that is mapped meanwhile leads to the others, and after its return to it too."""
    around, resolver = resolved(state)
    there = around.connect("b0").as_envoy()
    async with around.running():
        await map_to_b(around, "api")
        there.settle()
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        back = around.connect("b1")
        back.ask(CLUSTER)
        back.settle()
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        back.as_envoy()
        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]
        assert not around.reconciler.publication.uncertified(B)


async def test_a_name_does_not_lead_to_an_old_certificate_while_none_can_be_issued(
    state: State,
) -> None:
    """Who was gone when a route was mapped is ready by what it has, and called by other names."""
    around, resolver = resolved(state)
    there, gone = (around.connect(guid).as_envoy() for guid in ("b0", "b1"))
    gone.close()
    around.commit(set_status(around.state, InstanceGuid("b1"), InstanceStatus.GONE))
    async with around.running():
        await map_to_b(around, "api")
        there.settle()
        await settled()
        around.serials.are_bad = True
        back = around.connect("b1").as_envoy()
        around.ready("b1")
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        around.serials.are_bad = False
        await around.clock.advance(RETRY.total_seconds())
        back.settle()

        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]


async def test_a_name_leads_to_who_came_back_once_its_dead_stream_is_given_up(
    state: State,
) -> None:
    """A connection that broke unheard ends after its client is back; nobody else tells then."""
    around, resolver = resolved(state)
    there = around.connect("b0").as_envoy()
    async with around.running():
        await map_to_b(around, "api")
        there.settle()
        dead = around.connect("b1")
        dead.ask(SECRET, C2C_SECRET)
        around.connect("b1").as_envoy()
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        dead.close()

        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]


async def test_a_name_does_not_lead_to_who_left_before_it_had_the_certificate(state: State) -> None:
    """Nobody waits for it any more, and it may be back before it counts as gone."""
    around, resolver = resolved(state)
    stays, leaves = (around.connect(guid).as_envoy() for guid in ("b0", "b1"))
    async with around.running():
        await map_to_b(around, "api")
        leaves.close()
        stays.settle()
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        around.connect("b1").as_envoy()
        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]


async def test_a_name_leads_to_who_came_back_while_it_waited_for_another(state: State) -> None:
    """It has the certificate by then, and nothing more has to happen on its stream."""
    around, resolver = resolved(state)
    slow = around.connect("b0").as_envoy()
    async with around.running():
        await map_to_b(around, "api")
        around.connect("b1").as_envoy()
        await settled()
        slow.settle()

        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]
        assert not around.reconciler.publication.uncertified(B)


async def test_a_name_does_not_lead_to_who_has_not_asked_for_its_certificate_yet(
    state: State,
) -> None:
    """It came back just before, and has all that it asked for so far."""
    around, resolver = resolved(state)
    there, back = around.connect("b0").as_envoy(), around.connect("b1")
    async with around.running():
        await map_to_b(around, "api")
        there.settle()
        assert await names_by_now(resolver) == ["0.api.apps.internal", "api.apps.internal"]

        back.as_envoy()
        assert (await names_by_now(resolver))[1:] == ["1.api.apps.internal", "api.apps.internal"]


async def test_a_name_leads_to_who_has_it_and_is_given_the_next_one(state: State) -> None:
    """Whoever had a certificate with it once has no other without it later."""
    around, resolver = resolved(state)
    slow, fast = (around.connect(guid).as_envoy() for guid in ("b0", "b1"))
    async with around.running():
        await map_to_b(around, "api")
        fast.settle()
        await map_to_b(around, "shop")
        slow.settle()

        assert await names_by_now(resolver) == [
            "0.api.apps.internal",
            "1.api.apps.internal",
            "api.apps.internal",
        ]
        assert not around.reconciler.publication.uncertified(B)


async def test_after_a_restart_a_name_leads_to_who_has_the_certificate(state: State) -> None:
    """A route that was mapped just before leads to neither instance before its own ACK."""
    first = World(mapping(state, B, "old").state)
    for guid in ("b0", "b1"):
        first.connect(guid).as_envoy()
        first.ready(guid)
    second = World(mapping(first.state, B, "new").state, after=first)
    async with second.running():
        resolver = second.connect("a0").as_resolver()
        both = ["0.old.apps.internal", "1.old.apps.internal", "old.apps.internal"]
        assert names_of(resolver) == both

        for guid, new in (("b0", ["0.new.apps.internal"]), ("b1", ["1.new.apps.internal"])):
            envoy = second.connect(guid).as_envoy()
            await settled()
            envoy.settle()
            await second.clock.advance(TOGETHER_SECONDS)
            resolver.settle()
            both += new
            assert names_of(resolver) == sorted([*both, "new.apps.internal"])
    assert not second.reconciler.publication.uncertified(B)


async def test_a_certificate_loses_a_name_after_the_resolvers_did(state: State) -> None:
    """Once a's resolver ACKed that the name is gone, and a moment later (before break)."""
    around = World(mapping(state, B, "api").state)
    resolver = around.connect("a0").as_resolver()
    envoy = around.connect("b0").as_envoy()
    around.ready("b0")
    async with around.running():
        await settled()
        resolver.settle()
        assert "api.apps.internal" in names_of(resolver)

        around.commit(unmap_route(around.state, B, "api", "apps.internal"))
        await around.clock.advance(10 * LINGER_SECONDS)
        assert envoy.receive() == []

        resolver.settle()
        assert names_of(resolver) == []
        await around.clock.advance(0.9 * LINGER_SECONDS)
        assert envoy.receive() == []

        await around.clock.advance(0.1 * LINGER_SECONDS)
        envoy.settle()
        assert around.leaf("b0").san.dns == ("b0",)


async def test_a_certificate_keeps_a_name_while_a_resolver_is_away(state: State) -> None:
    """A resolver that lost its stream answers by it until it is back and has let go of it."""
    around = World(mapping(state, B, "api").state)
    resolver = around.connect("a0").as_resolver()
    envoy = around.connect("b0").as_envoy()
    around.ready("b0")
    async with around.running():
        await settled()
        resolver.close()
        around.commit(unmap_route(around.state, B, "api", "apps.internal"))
        await around.clock.advance(10 * LINGER_SECONDS)
        assert envoy.receive() == []

        back = around.connect("a0").as_resolver()
        assert await names_by_now(back) == []
        await around.clock.advance(LINGER_SECONDS)
        envoy.settle()
        assert around.leaf("b0").san.dns == ("b0",)


async def test_a_certificate_waits_for_no_resolver_that_has_another_stream(state: State) -> None:
    """Which has told it that the name is gone."""
    around = World(mapping(state, B, "api").state)
    old, resolver = (around.connect("a0").as_resolver() for _ in range(2))
    envoy = around.connect("b0").as_envoy()
    around.ready("b0")
    async with around.running():
        await settled()
        old.close()
        around.commit(unmap_route(around.state, B, "api", "apps.internal"))
        await settled()
        resolver.settle()
        await around.clock.advance(LINGER_SECONDS)
        envoy.settle()
        assert around.leaf("b0").san.dns == ("b0",)
