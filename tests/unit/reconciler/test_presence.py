"""Presence: streams and reports in, the status of each instance out, written to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.model.apps import update_app
from control_plane.model.change import Change
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.instances import (
    move_instance,
    register_instance,
    remove_instance,
    set_status,
)
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.planner import NAME_TABLE_TYPE
from control_plane.reconciler.membership import absences
from control_plane.reconciler.membership import presence as module
from control_plane.reconciler.membership.presence import (
    WORDS_AT_ONCE,
    WORDS_PER_SECOND,
    Presence,
)
from control_plane.reconciler.membership.status import Word
from control_plane.registry import Registry
from control_plane.server.rates import TokenBuckets
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.faulty import Faulty, working
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Peer, World
from tests.unit.server_security.still_clock import StillClock

B0 = InstanceGuid("b0")
REGISTERED, READY, NOT_READY, GONE = (
    InstanceStatus.REGISTERED,
    InstanceStatus.READY,
    InstanceStatus.NOT_READY,
    InstanceStatus.GONE,
)
WELL = Word(listening=True, leaving=False)
SOON = 0.03
"""A grace that a test can wait for, in seconds."""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait half a minute."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", SOON)
    monkeypatch.setattr(absences, "GRACE_AFTER_START_SECONDS", 2 * SOON)


class Watched:
    """A registry with one instance, its streams, and who watches over them.

    Attributes:
        statuses: the status of the instance after each transaction.
    """

    def __init__(self, world: World, registry: Registry, presence: Presence) -> None:
        """Take what runs already."""
        self.world = world
        self.registry = registry
        self.presence = presence
        self.statuses: list[InstanceStatus] = []
        self._news = asyncio.Event()
        registry.subscribe(self._note)

    @property
    def status(self) -> InstanceStatus:
        """The status that was written last."""
        return self.registry.state.instances[B0].status

    async def becomes(self, status: InstanceStatus) -> None:
        """Wait until the instance has this status."""
        async with asyncio.timeout(5):
            while self.status is not status:
                self._news.clear()
                await self._news.wait()

    async def stays(self, status: InstanceStatus, seconds: float = 5 * SOON) -> None:
        """Make sure that it has this status, and keeps it."""
        assert self.status is status
        written = len(self.statuses)
        await asyncio.sleep(seconds)
        assert self.statuses[written:] == []

    def connect(self) -> Peer:
        """Open a stream of the instance's Envoy; it has asked for clusters so far."""
        peer = self.world.connect(B0)
        peer.ask(CLUSTER)
        return peer

    async def ready(self) -> Peer:
        """Connect an Envoy and let it take all that it needs."""
        peer = self.connect().as_envoy()
        await self.becomes(READY)
        return peer

    async def resolver(self) -> Peer:
        """Connect a resolver, and wait until it is on the disk that there is one."""
        peer = self.world.connect(B0).as_resolver()
        async with asyncio.timeout(5):
            while not self.registry.state.instances[B0].has_resolver:
                self._news.clear()
                await self._news.wait()
        return peer

    async def check_health_by(self, health_check_type: str) -> None:
        """Change what makes the app healthy."""
        spec = replace(AppSpec.of(self.registry.state.apps[B]), health_check_type=health_check_type)
        await self.registry.execute(lambda state: update_app(state, B, spec))

    def report(
        self,
        *,
        listening: bool = True,
        leaving: bool = False,
        not_serving: bool = False,
        draining: bool = False,
    ) -> None:
        """Report as the sidecar."""
        self.presence.reported(B0, Word(listening, leaving, not_serving, draining))

    def _note(self, state: State, change: Change) -> None:
        del change
        instance = state.instance(B0)
        if instance is not None:
            self.statuses.append(instance.status)
        self._news.set()


@asynccontextmanager
async def watched(
    directory: Path,
    status: InstanceStatus = REGISTERED,
    *,
    has_sidecar: bool = False,
    is_early: bool = False,
    has_turn: Callable[[InstanceGuid], bool] = lambda _: True,
    awaits_plan: Callable[[InstanceGuid], bool] = lambda _: False,
) -> AsyncIterator[tuple[Watched, Faulty]]:
    """Run registry and presence over a store that has one instance of this status.

    Args:
        has_sidecar: whether a sidecar spoke for it before this start.
        is_early: whether its Envoy comes before presence has begun to write.
        has_turn: whether a changed word is written at once.
        awaits_plan: whether its plan is outdated.
    """
    state = register(world("b"), B0, B, "10.0.1.1")
    state = set_status(state, B0, status, has_sidecar=has_sidecar).state
    store = await Faulty.holding(state, directory)
    around = World(state)
    registry = Registry(state, store)
    registry.subscribe(around.reconciler.committed)
    presence = Presence(registry, around.nodes, has_turn, awaits_plan)
    around.nodes.observe(presence)
    if is_early:
        around.connect(B0).as_envoy()
    async with working(store, registry.run(), presence.run()):
        yield Watched(around, registry, presence), store


async def test_an_instance_is_ready_once_its_envoy_has_all_that_it_needs(tmp_path: Path) -> None:
    """Connected is not enough: listeners and certificate must have been ACKed."""
    async with watched(tmp_path) as (instance, _):
        peer = instance.connect()
        await instance.becomes(NOT_READY)

        peer.ask(LISTENER)
        peer.settle()
        await instance.stays(NOT_READY)
        peer.ask(SECRET, C2C_SECRET)
        peer.receive()
        await instance.stays(NOT_READY)

        peer.settle()

        await instance.becomes(READY)
        assert instance.statuses == [NOT_READY, READY]


async def test_an_instance_whose_plan_is_outdated_is_not_ready_by_it(tmp_path: Path) -> None:
    """It has all that it should have had, and may lack what it should have now."""
    waiting = {B0}
    async with watched(tmp_path, awaits_plan=waiting.__contains__) as (instance, _):
        instance.connect().as_envoy()
        await instance.becomes(NOT_READY)
        await instance.stays(NOT_READY)

        waiting.clear()
        instance.presence.planned(B0)
        await instance.becomes(READY)


@pytest.mark.parametrize("port", ["61002", "61443"])
async def test_a_port_that_is_taken_makes_nobody_unready_but_the_c2c_port(
    tmp_path: Path, port: str
) -> None:
    """Other containers come to 61443, whatever else an Envoy cannot listen on."""
    async with watched(tmp_path) as (instance, _):
        spec = AppSpec("b", org="acme", space="dev", ports=(9090, 8080))
        await instance.registry.execute(lambda state: update_app(state, B, spec))
        refused = f"listener-8080-{port}"
        peer = instance.connect()
        peer.ask(LISTENER)
        peer.settle_without(refused)  # all of them, as one response
        await instance.becomes(NOT_READY)
        peer.ask(SECRET, C2C_SECRET, ID_SECRET)
        peer.settle_without(refused)
        await instance.stays(NOT_READY)
        await instance.world.clock.advance(2)  # each is tried by itself
        peer.settle_without(refused)

        if port == "61443":
            await instance.stays(NOT_READY)
        else:
            await instance.becomes(READY)


@pytest.mark.parametrize("name", [C2C_SECRET, ID_SECRET])
async def test_only_the_certificate_of_the_c2c_port_makes_ready(tmp_path: Path, name: str) -> None:
    """Who refuses it serves nobody; the one of the other ports is theirs alone."""
    async with watched(tmp_path) as (instance, _):
        peer = instance.connect()
        peer.ask(LISTENER)
        peer.settle()
        await instance.becomes(NOT_READY)
        peer.ask(SECRET, C2C_SECRET)
        peer.settle_without(name)
        peer.ask(SECRET, ID_SECRET)
        peer.settle_without(name)

        if name == C2C_SECRET:
            await instance.stays(NOT_READY)
        else:
            await instance.becomes(READY)


async def test_the_streams_of_an_envoy_count_together(tmp_path: Path) -> None:
    """With a stream for each type, it is ready when all of them have what they asked for."""
    async with watched(tmp_path) as (instance, _):
        listeners = instance.connect()
        listeners.ask(LISTENER)
        listeners.receive()
        secrets = instance.world.connect(B0).as_static_envoy()
        await instance.becomes(NOT_READY)
        await instance.stays(NOT_READY)

        listeners.settle()

        await instance.becomes(READY)
        secrets.close()
        await instance.stays(READY)


async def test_a_stream_that_broke_unheard_keeps_nobody_unready_for_good(tmp_path: Path) -> None:
    """It ends some time after its Envoy came back on another, and that has no more to say then."""
    async with watched(tmp_path) as (instance, _):
        dead = instance.connect()
        dead.ask(LISTENER)
        await instance.becomes(NOT_READY)
        instance.connect().as_envoy()
        await instance.stays(NOT_READY)

        dead.close()

        await instance.becomes(READY)


async def test_an_envoy_with_a_static_listener_is_ready_with_its_certificate(
    tmp_path: Path,
) -> None:
    """It asks for nothing else."""
    async with watched(tmp_path) as (instance, _):
        instance.world.connect(B0).as_static_envoy()

        await instance.becomes(READY)


async def test_a_resolver_is_no_envoy(tmp_path: Path) -> None:
    """Its stream neither makes an instance ready nor keeps it there when its Envoy is gone."""
    async with watched(tmp_path) as (instance, _):
        resolver = await instance.resolver()
        await instance.stays(REGISTERED)

        envoy = await instance.ready()
        resolver.close()
        await instance.stays(READY)
        instance.world.connect(B0).as_resolver()
        envoy.close()

        await instance.becomes(GONE)
        instance.world.connect(B0).as_resolver()
        await instance.stays(GONE)


async def test_that_there_is_a_resolver_is_remembered(tmp_path: Path) -> None:
    """It is written once, though it asks again and again and goes away."""
    async with watched(tmp_path) as (instance, store):
        (await instance.resolver()).close()
        instance.world.connect(B0).as_resolver()
        await instance.ready()

        (stored,) = [each for each in await store.load() if isinstance(each, Instance)]
        assert (stored.status, stored.has_resolver) == (READY, True)
        assert instance.statuses == [REGISTERED, READY]


async def test_ready_is_said_once(tmp_path: Path) -> None:
    """Later changes that are on their way make nobody unready: the old ones still serve."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()

        instance.world.custody.drop(B0)
        instance.world.reconciler.opened(peer.live)
        assert peer.receive()

        await instance.stays(READY)


async def test_the_log_says_whose_status_it_is(tmp_path: Path) -> None:
    """Of each that was written, with its app."""
    with capture_logs() as logs:
        async with watched(tmp_path) as (instance, _):
            await instance.ready()
            instance.report(leaving=True)
            await instance.becomes(GONE)
            await settled()

    whose = {"instance": B0, "app": B, "log_level": "info"}
    assert [each for each in logs if each["event"].startswith("instance.")] == [
        {"event": log_events.INSTANCE_READY, "status": "ready", **whose},
        {"event": log_events.INSTANCE_GONE, "status": "gone", **whose},
    ]


async def test_an_app_that_does_not_listen_is_not_ready(tmp_path: Path) -> None:
    """What the sidecar says of its app counts, whatever the Envoy ACKed."""
    async with watched(tmp_path) as (instance, _):
        await instance.ready()
        assert instance.presence.word(B0) is None

        instance.report(listening=False)
        await instance.becomes(NOT_READY)
        assert instance.presence.word(B0) == Word(listening=False, leaving=False)
        instance.report(listening=False)
        instance.report(listening=True)
        await instance.becomes(READY)
        assert instance.presence.word(B0) == Word(listening=True, leaving=False)

        assert instance.statuses == [READY, NOT_READY, READY]


async def test_an_app_whose_health_is_its_process_need_not_listen(tmp_path: Path) -> None:
    """What its sidecar said counts again as soon as its health is that of its port again."""
    async with watched(tmp_path) as (instance, _):
        await instance.ready()
        instance.report(listening=False)
        await instance.becomes(NOT_READY)

        await instance.check_health_by("process")
        await instance.becomes(READY)
        await instance.check_health_by("port")
        await instance.becomes(NOT_READY)


async def test_an_app_that_need_not_listen_is_not_ready_without_its_envoy(tmp_path: Path) -> None:
    """It waits for what its Envoy should have, and one that leaves is gone, as with any app."""
    async with watched(tmp_path) as (instance, _):
        await instance.check_health_by("process")
        instance.report(listening=False)
        peer = instance.connect()
        await instance.becomes(NOT_READY)
        await instance.stays(NOT_READY)

        peer.as_envoy()
        await instance.becomes(READY)
        instance.report(listening=False, leaving=True)
        await instance.becomes(GONE)


async def test_an_instance_that_serves_no_more_is_not_ready(tmp_path: Path) -> None:
    """An Envoy that hangs has its streams and its ACKs; who sees it hang is its sidecar."""
    async with watched(tmp_path) as (instance, _):
        await instance.ready()
        instance.report()
        instance.report(not_serving=True)
        await instance.becomes(NOT_READY)
        await instance.check_health_by("process")
        await instance.stays(NOT_READY)

        instance.report()
        await instance.becomes(READY)


async def test_an_envoy_that_serves_no_more_is_not_given_time_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its streams break once it has hung for long; while it is away it may yet come back."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", 60)
    async with watched(tmp_path) as (instance, _):
        instance.report()
        (await instance.ready()).close()
        await instance.stays(READY)

        instance.report(not_serving=True)
        await instance.becomes(NOT_READY)
        assert instance.presence.is_awaited(B0)


async def test_who_never_came_or_is_gone_is_not_called_back_by_what_it_does_not_serve(
    tmp_path: Path,
) -> None:
    """The word is of an Envoy that was there."""
    async with watched(tmp_path) as (instance, _):
        instance.report()
        instance.report(not_serving=True)
        await asyncio.sleep(SOON)
        await instance.stays(REGISTERED)
        instance.report()
        (await instance.ready()).close()
        await instance.becomes(GONE)
        instance.report(not_serving=True)
        await instance.stays(GONE)


async def test_who_says_that_it_leaves_is_gone_at_once(tmp_path: Path) -> None:
    """While its streams are still open, and without any grace."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        assert instance.presence.word(B0) is None

        instance.report(leaving=True)
        await instance.becomes(GONE)
        assert instance.presence.word(B0) == Word(listening=True, leaving=True)
        peer.close()

        await instance.stays(GONE)


async def test_who_is_about_to_stop_is_not_ready_until_it_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes its app healthy, and though its Envoy ends before its app does."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", 60)
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        instance.report(draining=True)
        await instance.becomes(NOT_READY)
        await instance.check_health_by("process")
        await instance.stays(NOT_READY)
        peer.close()
        await instance.stays(NOT_READY)

        instance.report(draining=True, leaving=True)
        await instance.becomes(GONE)


async def test_who_left_may_change_its_mind(tmp_path: Path) -> None:
    """A report that does not say so any more brings it back."""
    async with watched(tmp_path) as (instance, _):
        await instance.ready()
        instance.report(leaving=True)
        await instance.becomes(GONE)

        instance.report()

        await instance.becomes(READY)


async def test_a_new_stream_brings_nobody_back_who_leaves(tmp_path: Path) -> None:
    """An Envoy that drains may lose its stream too; a sidecar that starts anew says so itself."""
    async with watched(tmp_path) as (instance, _):
        first = await instance.ready()
        instance.report(leaving=True)
        first.close()
        await instance.becomes(GONE)

        second = instance.connect().as_envoy()
        await instance.stays(GONE)
        second.close()

        instance.report(listening=False)
        await instance.stays(GONE)
        instance.connect().as_envoy()
        await instance.becomes(NOT_READY)
        instance.report()
        await instance.becomes(READY)


@pytest.mark.parametrize("status", [NOT_READY, GONE], ids=str)
async def test_a_sidecars_word_outlives_a_restart(tmp_path: Path, status: InstanceStatus) -> None:
    """What its Envoy ACKs brings nobody back who left or does not listen; the next report does."""
    async with watched(tmp_path, status, has_sidecar=True) as (instance, _):
        instance.connect().as_envoy()
        await instance.stays(status)

        instance.report()

        await instance.becomes(READY)
        assert instance.statuses == [READY]


async def test_who_leaves_across_a_restart_is_never_brought_back(tmp_path: Path) -> None:
    """Its word was the last one; its Envoy drains under the next control plane, and ends."""
    async with watched(tmp_path) as (instance, _):
        instance.report()
        await instance.ready()
        instance.report(leaving=True)
        await instance.becomes(GONE)
        left = instance.registry.state.instances[B0]

    async with watched(tmp_path / "2", left.status, has_sidecar=left.has_sidecar) as (again, _):
        peer = again.connect().as_envoy()
        await again.stays(GONE)
        peer.close()
        await again.stays(GONE)


@pytest.mark.parametrize("status", [REGISTERED, NOT_READY, GONE], ids=str)
async def test_without_a_sidecar_the_envoy_is_all_there_is(
    tmp_path: Path, status: InstanceStatus
) -> None:
    """An instance that was registered by hand is ready, and back, with what its Envoy ACKed."""
    async with watched(tmp_path, status) as (instance, _):
        instance.connect().as_envoy()

        await instance.becomes(READY)


async def test_a_sidecar_that_is_known_is_waited_for(tmp_path: Path) -> None:
    """It spoke before its Envoy came, and then the control plane was started again."""
    async with watched(tmp_path, has_sidecar=True) as (instance, _):
        instance.connect().as_envoy()
        await instance.becomes(NOT_READY)
        await instance.stays(NOT_READY)

        instance.report()

        await instance.becomes(READY)


async def test_that_a_sidecar_spoke_is_written_once(tmp_path: Path) -> None:
    """With the first report, whatever it says; and nobody's resources are looked at for it."""
    changes: asyncio.Queue[Change] = asyncio.Queue()
    async with watched(tmp_path) as (instance, store):
        instance.registry.subscribe(lambda _, change: changes.put_nowait(change))
        instance.report(listening=False)
        change = await asyncio.wait_for(changes.get(), 5)
        instance.report()
        await instance.stays(REGISTERED)

        assert changes.empty()
        (stored,) = [each for each in await store.load() if each in change.puts]
        assert isinstance(stored, Instance)
        assert stored.has_sidecar
        assert change.apps == frozenset()


async def test_broken_streams_have_a_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is withdrawn when a stream breaks; after the grace the instance is gone."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", 10 * SOON)
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()

        peer.close()

        await instance.stays(READY)
        await instance.becomes(GONE)


@pytest.mark.parametrize(
    "word", [WELL, replace(WELL, listening=False), replace(WELL, not_serving=True)], ids=str
)
async def test_a_sidecar_that_speaks_gives_its_envoy_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: Word
) -> None:
    """If it says that all is well: Envoy serves on, and has yet to connect again."""
    async with watched(tmp_path) as (instance, _):
        instance.report()
        (await instance.ready()).close()
        monkeypatch.setattr(absences, "GRACE_SECONDS", 60)

        instance.report(listening=word.listening, not_serving=word.not_serving)

        if word == WELL:
            await instance.stays(READY)
        else:
            await instance.becomes(GONE)


async def test_who_may_come_back_is_awaited_until_the_grace_is_over(tmp_path: Path) -> None:
    """A broken stream is no end: only time, or its own word, makes an instance one that is gone."""
    async with watched(tmp_path) as (instance, _):
        assert not instance.presence.is_awaited(B0)

        peer = await instance.ready()
        assert instance.presence.is_awaited(B0)
        peer.close()
        assert instance.presence.is_awaited(B0)
        await instance.becomes(GONE)

        assert not instance.presence.is_awaited(B0)


async def test_who_was_there_before_a_start_is_awaited(tmp_path: Path) -> None:
    """What is on the disk counts from the first moment, and until the longer grace is over."""
    async with watched(tmp_path, NOT_READY) as (instance, _):
        assert instance.presence.is_awaited(B0)
        await instance.becomes(GONE)

        assert not instance.presence.is_awaited(B0)


async def test_whose_end_cannot_be_written_is_not_awaited(tmp_path: Path) -> None:
    """A full disk keeps nobody's address: what was said, or has passed, counts at once."""
    async with watched(tmp_path) as (instance, store):
        peer = await instance.ready()
        store.failures = 1_000
        instance.report(leaving=True)
        assert not instance.presence.is_awaited(B0)

        instance.report()
        assert instance.presence.is_awaited(B0)
        peer.close()
        await instance.stays(READY)
        assert not instance.presence.is_awaited(B0)


async def test_nobody_counts_as_gone_while_the_control_plane_stops(tmp_path: Path) -> None:
    """Streams that end because the server ends them say nothing of their instances."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()

        peer.close()
        instance.presence.hold()
        await instance.stays(READY, 3 * SOON)

        again = await instance.ready()
        again.close()
        await instance.stays(READY, 3 * SOON)


async def test_who_comes_back_in_time_was_never_away(tmp_path: Path) -> None:
    """A stream within the grace stops the clock, and nothing is written."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        peer.close()

        instance.connect()

        await instance.stays(READY)


async def test_an_instance_with_a_stream_left_is_there(tmp_path: Path) -> None:
    """Only the last of several streams starts the clock."""
    async with watched(tmp_path) as (instance, _):
        first, second = await instance.ready(), instance.connect()

        first.close()
        await instance.stays(READY)
        second.close()

        await instance.becomes(GONE)


async def test_after_a_start_there_is_a_longer_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody is away then, so what was ready stays ready until it had time to come back."""
    monkeypatch.setattr(absences, "GRACE_AFTER_START_SECONDS", 10 * SOON)
    async with watched(tmp_path, READY) as (instance, _):
        await instance.stays(READY)

        await instance.becomes(GONE)
        assert instance.statuses == [GONE]


@pytest.mark.parametrize("has_sidecar", [False, True])
async def test_who_comes_back_after_a_start_stays_as_it_was(
    tmp_path: Path, *, has_sidecar: bool
) -> None:
    """A restart of the control plane is nothing that names or policies should show."""
    async with watched(tmp_path, READY, has_sidecar=has_sidecar) as (instance, _):
        instance.connect().as_envoy()

        await instance.stays(READY)
        assert instance.statuses == []


async def test_who_comes_back_before_anything_else_is_there(tmp_path: Path) -> None:
    """No clock runs for an instance whose Envoy has come already."""
    async with watched(tmp_path, READY, is_early=True) as (instance, _):
        await instance.stays(READY)


@pytest.mark.parametrize("status", [REGISTERED, GONE], ids=str)
async def test_who_was_not_there_is_not_waited_for(tmp_path: Path, status: InstanceStatus) -> None:
    """An instance that never connected, or is gone already, does not change by being away."""
    async with watched(tmp_path, status) as (instance, _):
        await instance.stays(status)


async def test_a_status_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    """A disk that is full for a moment loses no status, and stops nobody."""
    async with watched(tmp_path) as (instance, store):
        store.failures = 1

        instance.connect().as_envoy()

        await instance.becomes(READY)
        assert store.failures == 0


async def test_a_status_that_cannot_be_written_is_tried_as_often_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes and goes while a disk is full leaves one attempt waiting and not one for each."""
    monkeypatch.setattr(module, "RETRY_SECONDS", SOON)
    async with watched(tmp_path) as (instance, store), asyncio.timeout(5):
        store.failures = 1_000
        for number in range(20):
            store.failed.clear()
            instance.report(listening=bool(number % 2))
            await store.failed.wait()
        before = store.failures
        await asyncio.sleep(5 * SOON)
        assert before - store.failures <= 6
        store.failed.clear()
        await store.failed.wait()

        store.failures = 0
        instance.connect().as_envoy()
        await instance.becomes(READY)


async def test_a_word_that_changes_without_end_is_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many changes are written at once; of those that follow the newest is, a little later."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.5)
    words = TokenBuckets(WORDS_PER_SECOND, WORDS_AT_ONCE, StillClock())
    async with watched(tmp_path, has_turn=words.take) as (instance, _), asyncio.timeout(5):
        await instance.ready()
        for number in range(WORDS_AT_ONCE):
            instance.report(listening=bool(number % 2))
            await instance.becomes(READY if number % 2 else NOT_READY)
        written = len(instance.statuses)
        for number in range(21):
            instance.report(listening=bool(number % 2))
            await asyncio.sleep(0.001)

        await instance.becomes(NOT_READY)
        assert instance.statuses[written:] == [NOT_READY]

        instance.report()
        await instance.becomes(READY)
        assert instance.statuses[written:] == [NOT_READY, READY]


async def test_a_word_that_waits_is_one_of_its_turn(tmp_path: Path) -> None:
    """Whoever changes its word all the time has no other turn besides the one that it waits for."""
    turns: list[InstanceGuid] = []

    def has_turn(instance: InstanceGuid) -> bool:
        turns.append(instance)
        return len(turns) != 1

    async with watched(tmp_path, has_turn=has_turn) as (instance, _), asyncio.timeout(5):
        await instance.ready()
        instance.report(listening=False)
        instance.report(listening=True)
        instance.report(listening=False)

        assert turns == [B0]
        await instance.becomes(NOT_READY)
        assert turns == [B0, B0]


async def test_an_instance_that_is_removed_is_not_written_again(tmp_path: Path) -> None:
    """What could not be written of it is forgotten with it."""
    async with watched(tmp_path) as (instance, store), asyncio.timeout(5):
        store.failures = 1
        instance.report()
        await store.failed.wait()
        await instance.registry.execute(lambda state: remove_instance(state, B0))

        assert not instance.presence._retries


async def test_the_resolver_of_one_that_was_removed_is_heard(tmp_path: Path) -> None:
    """It is let in once more, to be told so, and there is nothing to be said of it."""
    async with watched(tmp_path) as (instance, _):
        await instance.registry.execute(lambda state: remove_instance(state, B0))
        resolver = instance.world.connect(B0).as_resolver()

        assert NAME_TABLE_TYPE in resolver.live.stream.machines
        assert B0 not in instance.registry.state.instances


async def test_nothing_is_said_of_a_status_that_came_too_late(tmp_path: Path) -> None:
    """An instance that was removed meanwhile is not ready, so nobody is told that it is."""
    async with watched(tmp_path) as (instance, _), asyncio.timeout(5):
        await instance.ready()
        instance.report(listening=False)
        await instance.becomes(NOT_READY)
        with capture_logs() as logs:
            removal = instance.registry.execute(lambda state: remove_instance(state, B0))
            removing = asyncio.create_task(removal)
            await asyncio.sleep(0)
            instance.report()
            assert instance.registry.state.instance(B0) is not None
            await instance.presence._write(B0)
            await removing

    assert log_events.INSTANCE_READY not in [each["event"] for each in logs]


@pytest.mark.parametrize(
    "trace",
    [
        lambda instance: instance.report(listening=False),
        lambda instance: instance.report(leaving=True),
        lambda instance: instance.connect().close(),
    ],
    ids=["not listening", "leaving", "away"],
)
async def test_a_removed_instance_leaves_nothing(
    tmp_path: Path, trace: Callable[[Watched], object]
) -> None:
    """What was known of it is forgotten with it, also what is told afterwards."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        trace(instance)
        await instance.registry.execute(lambda state: remove_instance(state, B0))
        watcher = instance.presence
        assert not watcher._words
        assert not watcher._absences._timers
        assert not watcher._absences._overdue

        peer.close()
        instance.report(listening=False)
        await asyncio.sleep(2 * SOON)

        assert not watcher._words
        assert not watcher._absences._timers
        assert not watcher._absences._overdue
        assert not watcher._serving


async def test_who_is_registered_anew_while_connected_is_ready_again(tmp_path: Path) -> None:
    """No new stream tells of it: what is open already counts, once it ACKed what it should have."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        await instance.registry.execute(lambda state: remove_instance(state, B0))
        peer.settle()
        await instance.registry.execute(lambda state: register_instance(state, B0, B, "10.0.1.1"))
        await instance.becomes(NOT_READY)

        async with instance.world.running():
            peer.settle()

        await instance.becomes(READY)


async def test_who_moves_is_ready_once_its_envoy_listens_there(tmp_path: Path) -> None:
    """No name leads to its new address before that, though its stream goes on."""
    async with watched(tmp_path) as (instance, _):
        peer = await instance.ready()
        await instance.registry.execute(lambda state: move_instance(state, B0, "10.0.1.2"))
        await instance.stays(NOT_READY)

        async with instance.world.running():
            peer.settle()

        await instance.becomes(READY)


async def test_who_is_registered_anew_in_one_transaction_is_ready_again(tmp_path: Path) -> None:
    """Nothing of it was forgotten, and nothing is sent; so nobody would tell of it either."""
    async with watched(tmp_path) as (instance, _):
        await instance.ready()
        await asyncio.gather(
            instance.registry.execute(lambda state: remove_instance(state, B0)),
            instance.registry.execute(lambda state: register_instance(state, B0, B, "10.0.1.1")),
        )

        await instance.becomes(READY)
