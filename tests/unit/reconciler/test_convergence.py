"""Waiting for a change: who is behind when the time is up, and why, in words for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest

from control_plane.clock import Clock, SystemClock
from control_plane.errors import MessageError
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import move_instance, remove_instance, set_status
from control_plane.model.routes import unmap_route
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler import backlog
from control_plane.reconciler.convergence import Convergence
from control_plane.reconciler.progress import Behind, Stage
from control_plane.reconciler.publication.names import LINGER_SECONDS
from control_plane.reconciler.served.attestation import NOBODY_LOOKS, Attestation
from control_plane.reconciler.served.probe import Prober
from control_plane.reconciler.served.sight import Sight
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER
from tests.unit.model.world import B, allow, mapping, register, world
from tests.unit.reconciler.clocks import ManualClock, settled
from tests.unit.reconciler.worlds import C2C_SECRET, Peer, World
from tests.waiting import eventually

B0, B1 = InstanceGuid("b0"), InstanceGuid("b1")
GONE = InstanceStatus.GONE
SOURCE = "10.9.9.9"
"""The address from which the control plane looks."""
LATER = 5.0
"""A timeout that no test here reaches, in seconds."""


class Eyes(Prober):
    """Sees at each address what the test says."""

    def __init__(self) -> None:
        """See nothing anywhere."""
        super().__init__()
        self.seen: dict[str, int | str] = {}
        self.silent: set[str] = set()
        self.sources: set[str | None] = set()
        self.looks = 0

    async def served_serial(
        self, address: str, port: int, *, source: str | None = None
    ) -> int | str:
        """Return what the test says."""
        self.looks += 1
        self.sources.add(source)
        if address in self.silent:
            await asyncio.sleep(60)
        return self.seen.get(address, f"no TLS handshake with {address}:{port}: refused")


class Scene:
    """App b with two instances, of which b0 is connected."""

    def __init__(
        self, state: State, clock: Clock | None = None, *, source: str | None = SOURCE
    ) -> None:
        """Connect it."""
        self.world = World(state)
        self.eyes = Eyes()
        self.attestation = Attestation(self.world.clock)
        clock = clock or SystemClock()
        sight = Sight(
            lambda: self.world.state, self.attestation, clock, prober=self.eyes, source=source
        )
        self.convergence = Convergence(
            self.world.reconciler, self.world.nodes, self.world.custody, sight, clock
        )
        self.envoy: Peer = self.world.connect("b0").as_envoy()
        self.eyes.seen["10.0.1.1"] = self.serial

    @property
    def serial(self) -> int:
        """The serial of the certificate that b0 should serve."""
        return self.world.leaf("b0").serial

    def map(self, host: str = "api") -> None:
        """Map a route to b."""
        self.world.commit(mapping(self.world.state, B, host))

    def wait(
        self, stage: Stage, timeout: float = LATER, app: AppGuid = B
    ) -> asyncio.Task[tuple[Behind, ...]]:
        """Start to wait."""
        return asyncio.create_task(self.convergence.wait(frozenset({app}), stage, timeout))


def usual() -> State:
    """Return app ``b``, whose two instances may reach each other, and app ``a``."""
    state = register(register(world("a", "b"), B0, B, "10.0.1.1"), B1, B, "10.0.1.2")
    return allow(state, B, B)


@asynccontextmanager
async def a_scene(
    state: State | None = None, clock: Clock | None = None, *, source: str | None = SOURCE
) -> AsyncIterator[Scene]:
    """Let the reconciler work until the block ends."""
    scene = Scene(state or usual(), clock, source=source)
    async with scene.world.running():
        scene.envoy.settle()
        yield scene


async def test_what_is_committed_is_waited_for_by_nobody() -> None:
    """The registry answers after the commit."""
    async with a_scene() as scene:
        scene.map()

        assert await scene.convergence.wait(frozenset({B}), Stage.COMMITTED, 0) == ()


async def test_who_had_it_all_is_waited_for_again_once_a_name_has_gone() -> None:
    """Its certificate changes with that, and the wait for another may end only then."""
    async with a_scene() as scene:
        resolver = scene.world.connect("b0").as_resolver()
        scene.map()
        await settled()
        scene.envoy.settle()
        await settled()
        resolver.settle()
        other, slow = scene.world.connect("b1").as_envoy(), scene.world.connect("b1")
        slow.ask(LISTENER)
        slow.receive()
        scene.world.commit(unmap_route(scene.world.state, B, "api", "apps.internal"))
        await settled()
        resolver.settle()
        waiting = scene.wait(Stage.ACKED)
        await scene.world.clock.advance(LINGER_SECONDS)
        other.settle()
        slow.settle()
        await settled()
        assert not waiting.done()

        scene.envoy.settle()
        assert await waiting == ()


@pytest.mark.parametrize("stage", [Stage.ACKED, Stage.SERVED])
async def test_who_is_not_connected_is_not_waited_for(stage: Stage) -> None:
    """Only b0 has a stream; of app a nobody has one."""
    async with a_scene() as scene:
        assert await scene.wait(stage) == ()
        assert await scene.wait(stage, app=AppGuid("guid-a")) == ()


async def test_acked_is_answered_with_the_last_ack() -> None:
    """And with the name being published, which waits for the same."""
    async with a_scene() as scene:
        scene.map()
        waiting = scene.wait(Stage.ACKED)
        await settled()
        scene.envoy.receive()
        await settled()
        assert not waiting.done()

        scene.envoy.settle()

        assert await waiting == ()
        assert scene.world.reconciler.publication.published(B) == ("api.apps.internal",)
        assert scene.eyes.looks == 0


async def test_who_has_not_answered_is_named_with_what_it_was_asked() -> None:
    """The resource, and whether it was sent already."""
    async with a_scene() as scene:
        scene.map()
        await settled()
        unsent = await scene.wait(Stage.ACKED, 0.01)
        scene.envoy.receive()
        sent = await scene.wait(Stage.SERVED, 0.01)

    reasons = (
        f"it was not sent {C2C_SECRET} yet (NOT_SENT)",
        f"it has not answered for {C2C_SECRET} yet (STALE)",
    )
    assert [unsent, sent] == [(Behind(B0, B, 0, Stage.COMMITTED, each),) for each in reasons]


async def test_who_refused_is_named_with_its_own_words() -> None:
    """What Envoy says is what an operator needs."""
    async with a_scene() as scene:
        scene.map()
        await settled()
        scene.envoy.receive()
        scene.envoy.nack("Failed to load private key")

        behind = await scene.wait(Stage.ACKED, 0.01)

    reason = f"it refused {C2C_SECRET}: Failed to load private key"
    assert behind == (Behind(B0, B, 0, Stage.COMMITTED, reason),)


async def test_of_resources_that_were_refused_together_the_bad_one_is_named() -> None:
    """An Envoy that cannot bind one port refuses the whole response, and says which port."""
    async with a_scene() as scene:
        newcomer = scene.world.connect("b1")
        newcomer.ask(CLUSTER)
        newcomer.ask(LISTENER)
        newcomer.receive()
        newcomer.ack()
        (reply,) = newcomer.receive()
        assert reply.resources[0].name == "listener-8080-61001"
        newcomer.nack("listener-8080-61443: cannot bind\n")

        (behind,) = await scene.wait(Stage.ACKED, 0.01)

    assert behind.reason == "it refused listener-8080-61443: listener-8080-61443: cannot bind"


async def test_a_certificate_that_cannot_be_issued_is_named() -> None:
    """An instance that goes on with the old certificate has not ACKed the new one."""
    async with a_scene() as scene:
        scene.world.serials.are_bad = True
        scene.map()
        await settled()

        (behind,) = await scene.wait(Stage.SERVED, 0.01)

    assert behind.stage is Stage.COMMITTED
    assert behind.reason.startswith("no certificate could be issued: serial must be positive")


async def test_who_cannot_be_planned_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all that it was sent, and that is not what it should have."""

    def fail(*_: object) -> NoReturn:
        raise MessageError("a listener has no name")

    async with a_scene() as scene:
        monkeypatch.setattr(scene.world.planner, "plan", fail)
        scene.map()

        (behind,) = await scene.wait(Stage.ACKED, 0.01)

    assert behind.reason == "it goes on with what it had: a listener has no name"


async def test_who_has_something_to_give_back_is_named() -> None:
    """A resource that should be gone and is not is no resource that could be named."""
    async with a_scene() as scene:
        snapshot = scene.world.nodes.snapshot(B0)
        assert snapshot is not None
        scene.world.nodes.set(B0, scene.world.planner.farewell(snapshot))

        (behind,) = await scene.wait(Stage.ACKED, 0.01)

    assert behind.reason == "it has not withdrawn everything yet"


async def test_a_resolver_that_is_not_back_after_a_start_is_named() -> None:
    """Certificates keep what was unmapped until it is, so the change is not everywhere."""
    ready = set_status(usual(), B1, InstanceStatus.READY, has_resolver=True).state
    async with a_scene(mapping(ready, B, "api").state) as scene:
        scene.world.commit(unmap_route(scene.world.state, B, "api", "apps.internal"))
        await settled()

        (behind,) = await scene.wait(Stage.ACKED, 0.01)
        scene.world.connect("b1").as_resolver()
        waiting = scene.wait(Stage.ACKED)
        await settled()
        await scene.world.clock.advance(LINGER_SECONDS)
        scene.envoy.settle()

        assert await waiting == ()
    assert (behind.instance_guid, behind.stage) == (B1, Stage.COMMITTED)
    assert behind.reason.startswith("its resolver is not connected and answers with the names that")
    assert scene.world.leaf("b0").san.dns == ("b0",)


async def test_who_is_removed_meanwhile_is_named() -> None:
    """It cannot have the change any more."""
    async with a_scene() as scene:
        scene.map()
        waiting = scene.wait(Stage.ACKED, 0.05)
        await settled()
        scene.world.commit(remove_instance(scene.world.state, B0))

        (behind,) = await waiting

    assert behind.reason == "it was removed"


async def test_whose_turn_has_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many that come at once one may wait longer for its plan than a command does."""
    scene = Scene(usual())
    monkeypatch.setattr(backlog, "CROWD", 0)
    scene.world.connect("b1")
    (behind,) = await scene.wait(Stage.ACKED, 0.01)

    assert behind.instance_guid == B1
    assert behind.reason == "its turn has not come yet"


async def test_who_is_planned_for_no_longer_is_there() -> None:
    """A stream of a node without a plan is sent nothing, so nothing is waited for."""
    async with a_scene() as scene:
        scene.world.nodes.forget(B0)

        assert await scene.wait(Stage.ACKED, 0.01) == ()


async def test_served_is_answered_when_the_new_serial_is_seen() -> None:
    """An ACK is not enough: the certificate is looked at, again and again, a little slower."""
    clock = ManualClock()
    async with a_scene(clock=clock) as scene:
        scene.map()
        await settled()
        scene.envoy.settle()
        waiting = scene.wait(Stage.SERVED)
        await clock.advance(0.1)
        assert not waiting.done()
        assert 3 < scene.eyes.looks < 12

        scene.eyes.seen["10.0.1.1"] = scene.serial
        await clock.advance(0.1)

        assert await waiting == ()
        # From where the listeners let it look, whatever route the machine would take.
        assert scene.eyes.sources == {SOURCE}


async def test_who_moves_meanwhile_is_looked_at_where_it_is() -> None:
    """Nobody is left at the address that it had when the wait began."""
    async with a_scene() as scene:
        del scene.eyes.seen["10.0.1.1"]
        waiting = scene.wait(Stage.SERVED)
        await settled()
        scene.world.commit(move_instance(scene.world.state, B0, "10.0.1.9"))
        await settled()
        scene.envoy.settle()
        scene.eyes.seen["10.0.1.9"] = scene.serial

        assert await waiting == ()


async def test_who_serves_something_else_is_named_with_what_it_serves() -> None:
    """The old serial, or why no certificate could be seen."""
    async with a_scene() as scene:
        old = scene.serial
        scene.map()
        await settled()
        scene.envoy.settle()
        other = await scene.wait(Stage.SERVED, 0)
        del scene.eyes.seen["10.0.1.1"]
        none = await scene.wait(Stage.SERVED, 0)
        wanted = f"serial {scene.serial:x} is not served"

    assert other == (
        Behind(B0, B, 0, Stage.ACKED, f"{wanted}: its last TLS handshake showed serial {old:x}"),
    )
    reason = f"{wanted}: no TLS handshake with 10.0.1.1:61443: refused"
    assert none == (Behind(B0, B, 0, Stage.ACKED, reason),)


async def test_a_handshake_that_hangs_is_not_waited_for() -> None:
    """The answer comes in time, whatever an instance does with connections."""
    async with a_scene() as scene:
        scene.eyes.silent.add("10.0.1.1")

        (behind,) = await asyncio.wait_for(scene.wait(Stage.SERVED, 0.3), 2)

    assert behind.reason.endswith("no TLS handshake with 10.0.1.1:61443 within 0.3 s")


async def test_who_loses_its_stream_before_it_was_seen_is_looked_at_all_the_same() -> None:
    """Its Envoy may be back at any moment, and nobody saw that it serves what it ACKed."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.map()
        await settled()
        scene.envoy.settle()
        waiting = scene.wait(Stage.SERVED)
        await settled()
        scene.envoy.close()
        looked = scene.eyes.looks
        await eventually(lambda: scene.eyes.looks > looked + 1, "it is looked at again")
        assert not waiting.done()
        scene.eyes.seen["10.0.1.1"] = scene.serial

        assert await waiting == ()


async def test_a_sidecar_is_believed_before_ones_own_eyes() -> None:
    """While it reports, nobody connects from afar; its next report is what is waited for."""
    async with a_scene() as scene:
        scene.attestation.report(B0, scene.serial, ())
        scene.map()
        await settled()
        scene.envoy.settle()
        waiting = scene.wait(Stage.SERVED)
        await settled()
        assert not waiting.done()

        scene.attestation.report(B0, scene.serial, ())

        assert await waiting == ()
        assert scene.eyes.looks == 0


async def test_at_whom_nobody_can_look_is_not_looked_at() -> None:
    """An instance of IPv6 is not reached from an address of IPv4; whoever waits is told so."""
    async with a_scene(register(world("b"), B0, B, "fd00::11")) as scene:
        (behind,) = await scene.wait(Stage.SERVED, 0)

    assert behind.reason.endswith(f"is not served: {NOBODY_LOOKS}")
    assert scene.eyes.looks == 0


async def test_without_an_address_of_its_own_the_control_plane_does_not_look() -> None:
    """No Envoy lets it in if it listens on all addresses, so a failing handshake says nothing."""
    async with a_scene(source=None) as scene:
        (behind,) = await scene.wait(Stage.SERVED, 0)
        waiting = scene.wait(Stage.SERVED)
        await settled()
        assert not waiting.done()
        scene.attestation.report(B0, scene.serial, ())

        assert await waiting == ()

    assert behind.reason.endswith(f"is not served: {NOBODY_LOOKS}")
    assert scene.eyes.looks == 0


async def test_a_sidecar_that_sees_nothing_is_quoted() -> None:
    """Its Envoy shows no certificate at all."""
    async with a_scene() as scene:
        scene.attestation.report(B0, None, ())

        (behind,) = await scene.wait(Stage.SERVED, 0)

    reason = "is not served: its sidecar has no TLS handshake with port 61443"
    assert behind.reason.endswith(reason)


async def test_an_instance_that_leaves_meanwhile_is_not_waited_for() -> None:
    """Nobody can see a certificate where nobody is."""
    async with a_scene() as scene:
        scene.map()
        await settled()
        scene.envoy.settle()
        waiting = scene.wait(Stage.SERVED)
        await settled()

        scene.envoy.close()

        assert await waiting == ()


@pytest.mark.parametrize("stage", [Stage.ACKED, Stage.SERVED])
async def test_who_loses_its_stream_is_waited_for_until_it_is_back(stage: Stage) -> None:
    """The end of a stream is no ACK; neither is a new one on which nothing was asked for yet."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.envoy.settle()
        scene.map()
        waiting = scene.wait(stage)
        await settled()
        scene.envoy.close()
        scene.eyes.seen["10.0.1.1"] = scene.serial
        await settled()
        assert not waiting.done()
        back = scene.world.connect("b0")
        await settled()
        assert not waiting.done()
        back.as_envoy()

        assert await waiting == ()


async def test_who_is_back_without_a_certificate_is_behind() -> None:
    """It is served the old one, since no other could be issued."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.world.serials.are_bad = True
        scene.map()
        waiting = scene.wait(Stage.SERVED, 0.1)
        await settled()
        scene.envoy.close()
        await settled()
        scene.world.connect("b0").as_envoy()

        (behind,) = await waiting

    assert behind.stage is Stage.COMMITTED
    assert behind.reason.startswith("no certificate could be issued: ")


@pytest.mark.parametrize("is_resolver", [False, True])
async def test_who_is_not_back_in_time_is_named(*, is_resolver: bool) -> None:
    """Its Envoy, or its resolver, whichever lost its stream."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        resolver = scene.world.connect("b0").as_resolver()
        scene.map()
        waiting = scene.wait(Stage.ACKED, 0.1)
        await settled()
        (resolver if is_resolver else scene.envoy).close()
        scene.envoy.settle()
        await settled()

        (behind,) = await waiting

    who = "resolver" if is_resolver else "Envoy"
    reason = f"its {who} lost its stream and is not back yet"
    assert behind == Behind(B0, B, 0, Stage.COMMITTED, reason)


@pytest.mark.parametrize("is_removed", [False, True])
async def test_who_counts_as_gone_meanwhile_is_waited_for_no_longer(*, is_removed: bool) -> None:
    """Nor is one that was removed while it was away: it will not be back."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.envoy.settle()
        waiting = scene.wait(Stage.ACKED)
        scene.map()
        await settled()
        scene.envoy.close()
        await settled()
        assert not waiting.done()
        state = scene.world.state
        gone = remove_instance(state, B0) if is_removed else set_status(state, B0, GONE)
        scene.world.commit(gone)

        assert await waiting == ()


@pytest.mark.parametrize("stage", [Stage.ACKED, Stage.SERVED])
async def test_who_is_about_to_stop_is_waited_for_no_longer_than_its_envoy(stage: Stage) -> None:
    """The app may take its time to end, and no Envoy comes back before it has."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.world.connect("b0").as_resolver()
        scene.map()
        waiting = scene.wait(stage)
        await settled()
        scene.attestation.report(B0, None, (), is_ending=True)
        assert not waiting.done()
        scene.envoy.close()

        assert await waiting == ()


async def test_who_is_back_need_not_ask_for_what_it_should_have_nothing_of() -> None:
    """A client asks for no filters any more once it has none."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.envoy.ask(ENDPOINT)
        scene.map()
        waiting = scene.wait(Stage.ACKED)
        await settled()
        scene.envoy.close()
        scene.world.connect("b0").as_envoy()

        assert await waiting == ()


async def test_a_stop_leaves_behind_whom_somebody_waits_for() -> None:
    """Streams that end then, and what is asked afterwards, say nothing of who has the change."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        scene.envoy.settle()
        served = scene.wait(Stage.SERVED)
        await settled()
        assert await served == ()
        scene.eyes.silent.add("10.0.1.1")
        served = scene.wait(Stage.SERVED)
        await settled()
        scene.map()
        acked = scene.wait(Stage.ACKED)
        await settled()

        scene.convergence.stop()
        scene.envoy.close()

        reason = "the control plane is stopping"
        for each in (served, acked, scene.wait(Stage.ACKED), scene.wait(Stage.SERVED)):
            assert await each == (Behind(B0, B, 0, Stage.COMMITTED, reason, stopping=True),)
        assert await scene.convergence.wait(frozenset({B}), Stage.COMMITTED, 0) == ()


async def test_a_stop_says_who_has_acked() -> None:
    """Only the look at what it serves was missing."""
    async with a_scene() as scene:
        scene.eyes.silent.add("10.0.1.1")
        served = scene.wait(Stage.SERVED)
        await settled()
        scene.convergence.stop()

        assert [each.stage for each in await served] == [Stage.ACKED]


@pytest.mark.parametrize("lacks", ["its ACK", "its resolver", "everything"])
async def test_a_stop_says_of_nobody_that_it_has_acked_who_has_not(lacks: str) -> None:
    """Who has not answered yet, lost a stream, or counts as gone has not followed."""
    async with a_scene() as scene:
        scene.world.ready("b0")
        resolver = scene.world.connect("b0").as_resolver()
        scene.envoy.settle()
        scene.eyes.silent.add("10.0.1.1")
        served = scene.wait(Stage.SERVED)
        await settled()
        match lacks:
            case "its ACK":
                scene.map()
                await settled()
            case "its resolver":
                resolver.close()
            case _:
                resolver.close()
                scene.envoy.close()
                scene.world.commit(set_status(scene.world.state, B0, GONE))
        scene.convergence.stop()

        assert [(each.stage, each.stopping) for each in await served] == [(Stage.COMMITTED, True)]


async def test_a_wait_that_is_over_or_given_up_leaves_nothing_behind() -> None:
    """Else each command would leave a task for as long as the control plane runs."""
    async with a_scene() as scene:
        scene.map()
        await settled()
        before = asyncio.all_tasks()
        late = scene.wait(Stage.ACKED)
        await settled()
        late.cancel()
        await asyncio.wait([late])
        assert await scene.convergence.wait(frozenset({AppGuid("guid-a")}), Stage.ACKED, 0) == ()
        await settled()

        assert asyncio.all_tasks() <= before


async def test_several_are_named_in_order() -> None:
    """Those that ACKed nothing first, then those that do not serve it yet."""
    async with a_scene() as scene:
        second = scene.world.connect("b1").as_envoy()
        scene.map()
        await settled()
        second.settle()

        behind = await scene.wait(Stage.SERVED, 0.01)

    assert [(each.instance_guid, each.stage) for each in behind] == [
        (B0, Stage.COMMITTED),
        (B1, Stage.ACKED),
    ]


async def test_an_envoy_that_asked_for_no_certificate_yet_has_nothing_to_ack() -> None:
    """Its first certificate will be the newest; what it serves until then is nothing."""
    async with a_scene() as scene:
        newcomer = scene.world.connect("b1")
        newcomer.ask(CLUSTER)
        newcomer.ask(LISTENER)
        newcomer.settle()

        assert await scene.wait(Stage.ACKED) == ()


async def test_a_name_that_certificates_still_have_to_lose_is_not_everywhere() -> None:
    """Everybody ACKed what was sent so far; what follows is yet to come."""
    async with a_scene() as scene:
        scene.map()
        await settled()
        scene.envoy.settle()
        resolver = scene.world.connect("b1").as_resolver()
        await settled()
        scene.world.commit(unmap_route(scene.world.state, B, "api", "apps.internal"))
        waiting = scene.wait(Stage.ACKED, 0.2)
        for _ in range(3):
            await settled()
            resolver.settle()
            scene.envoy.settle()

        behind = {each.instance_guid: each.reason for each in await waiting}
        assert "api.apps.internal" in scene.world.leaf("b0").san.dns

    reason = "what was sent is ACKed, but a name table still lacks a new name or has an old one"
    assert behind == {B0: reason, B1: reason}
