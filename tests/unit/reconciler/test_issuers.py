"""The second process that issues certificates while a crowd waits for them: a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from control_plane.ca import C2CRequest, Profile, Request
from control_plane.errors import InvalidArgument
from control_plane.model.entities import App, Instance
from control_plane.model.instances import remove_instance
from control_plane.model.state import State
from control_plane.names import Hostname, InstanceGuid
from control_plane.planner import c2c_request
from control_plane.reconciler import backlog as loop_module
from control_plane.reconciler.certificates import issuers as module
from control_plane.reconciler.certificates.issuer_process import PROGRAM
from control_plane.reconciler.certificates.issuers import AT_ONCE, PAUSE_SECONDS, Issued, Issuers
from control_plane.reconciler.certificates.renewals import RETRY
from control_plane.xds.resource_type import SECRET
from tests.tls_pairs import leaf_in
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock, settled
from tests.unit.reconciler.worlds import C2C_SECRET, Serials, World, authority
from tests.waiting import eventually
from tests.xds_client import PATIENCE

ENDS = 2 * PATIENCE
"""Seconds after which a process has not ended that is killed after ten."""

ONE = InstanceGuid("one")
REQUESTS: Mapping[str, Request] = {
    C2C_SECRET: C2CRequest("one", "app", "org", "space", ("b.apps.internal",), 0, "10.0.0.1")
}


class Scene:
    """Issuers with a clock that stands still, and what came back from them."""

    def __init__(self) -> None:
        """Start with nothing given."""
        self.clock = ManualClock()
        self.authority = authority()
        self.serials = Serials()
        self.issuers = Issuers(PROGRAM, lambda: self.authority, Profile(), self.serials, self.clock)
        self.back: asyncio.Queue[tuple[InstanceGuid, Mapping[str, Issued]]] = asyncio.Queue()

    def take(self, instance: InstanceGuid, issued: Mapping[str, Issued]) -> None:
        """Take what comes back."""
        self.back.put_nowait((instance, issued))

    async def until_ready(self) -> None:
        """Return once there is room."""
        await eventually(self.issuers.has_room, "there is room")

    async def issued(self) -> Mapping[str, Issued]:
        """Return what comes back next."""
        async with asyncio.timeout(PATIENCE):
            return (await self.back.get())[1]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Let a second process issue until the block ends."""
    made = Scene()
    running = asyncio.create_task(made.issuers.run(made.take))
    try:
        await made.until_ready()
        yield made
    finally:
        running.cancel()
        async with asyncio.timeout(ENDS):
            await asyncio.gather(running, return_exceptions=True)
        assert not children()


def children() -> list[int]:
    """Return the processes that this one started and that have not ended."""
    listed = Path("/proc/self/task").glob("*/children")
    found = [int(each) for file in listed for each in file.read_text().split()]
    return [each for each in found if "issuer_process" in _command(each)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


async def test_what_it_is_given_comes_back_issued() -> None:
    """A certificate of the CA of the moment, for what was asked, that passed the linter there."""
    async with scene() as here:
        here.issuers.give(ONE, REQUESTS, NOON)
        issued = (await here.issued())[C2C_SECRET]
        assert issued.request == REQUESTS[C2C_SECRET]
        assert issued.leaf.san == REQUESTS[C2C_SECRET].san
        assert issued.leaf.issuer_fingerprint == here.authority.fingerprint
        assert issued.sent_digest == here.authority.sent_digest
        assert issued.seconds > 0
        assert "PRIVATE KEY" not in repr(issued)

        here.authority = authority()
        here.issuers.give(ONE, REQUESTS, NOON)
        other = (await here.issued())[C2C_SECRET]
        assert other.leaf.issuer_fingerprint == here.authority.fingerprint
        assert other.leaf.private_key_pem != issued.leaf.private_key_pem


async def test_what_cannot_be_issued_comes_back_too() -> None:
    """Without a certificate, so that whoever wants it tries and learns why."""
    async with scene() as here:
        here.serials.are_bad = True
        here.issuers.give(ONE, REQUESTS, NOON)

        assert await here.issued() == {}


async def test_it_takes_no_more_than_it_can_do() -> None:
    """Who comes then issues where it stands; there is room again as soon as something is back."""
    async with scene() as here:
        for _ in range(AT_ONCE):
            assert here.issuers.has_room()
            here.issuers.give(ONE, REQUESTS, NOON)
        assert not here.issuers.has_room()
        for _ in range(AT_ONCE):
            assert await here.issued()

        assert here.issuers.has_room()


async def test_what_could_not_be_given_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given after it gets its own certificates, from the CA that had yet to be sent."""
    async with scene() as here:
        with monkeypatch.context() as patched:
            patched.setattr(module, "frame", _no_memory)
            with pytest.raises(MemoryError):
                here.issuers.give(InstanceGuid("two"), REQUESTS, NOON)
        here.issuers.give(ONE, REQUESTS, NOON)
        async with asyncio.timeout(PATIENCE):
            instance, issued = await here.back.get()

        assert instance == ONE
        assert issued[C2C_SECRET].leaf.issuer_fingerprint == here.authority.fingerprint


def _no_memory(_message: object) -> bytes:
    raise MemoryError


async def test_a_process_that_dies_is_missed_by_nobody() -> None:
    """What it had comes back, the log says so, and after a pause there is another."""
    async with scene() as here:
        (pid,) = children()
        with structlog.testing.capture_logs() as logs:
            os.kill(pid, signal.SIGSTOP)
            here.issuers.give(ONE, REQUESTS, NOON)
            os.kill(pid, signal.SIGKILL)
            assert await here.issued() == {}
            await eventually(lambda: logs, "the process has ended, and the log says so")
        assert [(each["event"], each["log_level"]) for each in logs] == [
            ("issuer.failed", "warning")
        ]
        assert not here.issuers.has_room()
        await settled()
        await here.clock.advance(PAUSE_SECONDS)
        await here.until_ready()
        here.issuers.give(ONE, REQUESTS, NOON)

        assert await here.issued()


async def test_what_cannot_be_started_is_tried_again_when_it_is_wanted_and_after_a_pause() -> None:
    """Nothing is started that nobody needs, and a program that fails takes no time from others."""
    clock = ManualClock()
    program = ("/nowhere/python",)
    issuers = Issuers(program, authority, Profile(), Serials(), clock)
    with structlog.testing.capture_logs() as failed:
        running = asyncio.create_task(issuers.run(lambda *_: None))
        await settled()
        assert failed == []
        issuers.has_room()
        await eventually(lambda: failed, "it could not be started")
        await settled()
        issuers.has_room()
        await settled()
        assert len(failed) == 1

        await clock.advance(PAUSE_SECONDS)
        assert len(failed) == 1
        issuers.has_room()
        await eventually(lambda: len(failed) == 2, "it was tried again")

    running.cancel()
    await asyncio.wait([running])


async def test_until_it_is_ready_it_takes_nothing() -> None:
    """A process that starts takes its time, and whoever is due meanwhile need not wait for it."""
    starts_for_ever = (sys.executable, "-c", "'issuer_process'; import sys; sys.stdin.read()")
    issuers = Issuers(starts_for_ever, authority, Profile(), Serials(), ManualClock())
    running = asyncio.create_task(issuers.run(lambda *_: None))
    issuers.has_room()
    await eventually(children, "it was started")
    await settled()

    assert not issuers.has_room()
    running.cancel()
    await asyncio.wait([running])


async def test_what_a_process_has_that_hangs_comes_back_before_it_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may take as long to end as it took to be given up, and nobody waits for that too."""
    async with scene() as here:
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.5)
        here.issuers.give(ONE, REQUESTS, NOON)
        here.issuers.give(InstanceGuid("two"), REQUESTS, NOON)

        assert [await here.issued(), await here.issued()] == [{}, {}]
        assert children() == [pid]


async def test_what_has_no_answer_of_its_own_comes_back_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that is not to what was asked is a failure, and loses nobody.

    Were it taken for one, the next would be for somebody else than it is given to.
    """
    async with scene() as here:
        monkeypatch.setattr(module, "unframed", lambda _: [])
        here.issuers.give(ONE, REQUESTS, NOON)

        assert await here.issued() == {}
        assert not here.issuers.has_room()


async def test_it_ends_when_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with nothing to do is memory for nothing; the next crowd starts another."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with scene() as here:
        await eventually(lambda: not children(), "the process has ended")
        await here.until_ready()
        here.issuers.give(ONE, REQUESTS, NOON)

        assert await here.issued()


async def test_it_ends_although_nobody_reads_its_answers() -> None:
    """Whoever stops amid a crowd with many routes leaves more answers than a pipe holds."""
    names = tuple(f"{number:03}.{'a' * 60}.apps.internal" for number in range(100))
    request = C2CRequest("one", "app", "org", "space", names, 0, "10.0.0.1")
    async with scene() as here:
        for _ in range(AT_ONCE):
            here.issuers.give(ONE, {C2C_SECRET: request}, NOON)

        assert await here.issued()


def test_it_ends_with_its_input() -> None:
    """However the control plane ended, nothing of it is left."""
    done = subprocess.run(PROGRAM, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE)

    assert done.returncode == 0


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> State:
    """Return an app with instances enough to be a crowd."""
    monkeypatch.setattr(loop_module, "CROWD", 2)
    state = world("b")
    for number in range(8):
        state = register(state, f"b{number}", B, f"10.0.1.{number + 1}")
    return state


async def _rotated(made: World, guids: list[str], host: str) -> None:
    """Map a route, and return once everybody was sent a certificate for it."""
    made.commit(mapping(made.state, B, host))
    name = f"{host}.apps.internal"
    await eventually(
        lambda: all(name in made.leaf(each).san.dns for each in guids), "all have the name"
    )


async def test_a_crowd_gets_its_certificates_from_both_processes(crowd: State) -> None:
    """Each instance has one for its own names, and whoever waits for them waits for all."""
    made = World(crowd, has_issuers=True)
    guids = [f"b{number}" for number in range(8)]
    async with made.running():
        peers = {each: made.connect(each).as_envoy() for each in guids}
        await eventually(made.issuers.has_room, "there is room")
        before = made.made_here
        await _rotated(made, guids, "shop")
        for peer in peers.values():
            peer.settle()

        assert made.made_here - before < len(guids)
        for guid, peer in peers.items():
            held = made.leaf(guid)
            assert held.san.dns[0] == guid
            assert held == leaf_in(peer.has[SECRET, C2C_SECRET])
            assert made.reconciler.standing.is_current(InstanceGuid(guid))


async def test_whose_requests_cannot_be_made_keeps_nobody_of_a_crowd_waiting(
    crowd: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others get theirs; it is said of this one that it failed, and it is tried again."""
    made, bad = World(crowd, has_issuers=True), InstanceGuid("b3")

    def refused(
        state: State, app: App, instance: Instance, lingering: Iterable[Hostname] = ()
    ) -> C2CRequest:
        if instance.guid == bad:
            raise InvalidArgument("no such name")
        return c2c_request(state, app, instance, lingering)

    others = [guid for number in range(8) if (guid := f"b{number}") != bad]
    async with made.running():
        for each in (*others, bad):
            made.connect(each).as_envoy()
        await eventually(made.issuers.has_room, "there is room")
        with monkeypatch.context() as patched:
            patched.setattr("control_plane.reconciler.certificates.due.c2c_request", refused)
            await _rotated(made, others, "shop")
            await eventually(lambda: made.reconciler.standing.plan_failure(bad), "its plan failed")
        assert made.reconciler.standing.plan_failure(bad) == "no such name"

        await made.clock.advance(RETRY.total_seconds() + 1)
        await _rotated(made, [bad], "again")
        assert made.reconciler.standing.plan_failure(bad) == ""


async def test_what_cannot_be_given_to_the_other_process_is_issued_here(
    crowd: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody of the crowd waits for what is not being made, and the log says what happened."""
    made = World(crowd, has_issuers=True)
    guids = [f"b{number}" for number in range(8)]
    async with made.running():
        for each in guids:
            made.connect(each).as_envoy()
        await eventually(made.issuers.has_room, "there is room")
        monkeypatch.setattr(module, "frame", _no_memory)
        before = made.made_here
        with structlog.testing.capture_logs() as logs:
            await _rotated(made, guids, "shop")

        assert made.made_here - before == len(guids)
        assert "issuer.failed" in {each["event"] for each in logs}


async def test_who_is_removed_meanwhile_gets_nothing(crowd: State) -> None:
    """What comes back for an instance that is gone is for nobody, and the others get theirs."""
    made = World(crowd, has_issuers=True)
    guids = [f"b{number}" for number in range(8)]
    async with made.running():
        for each in guids:
            made.connect(each).as_envoy()
        await eventually(made.issuers.has_room, "there is room")
        made.commit(mapping(made.state, B, "shop"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given = [
            each for each in guids if not made.reconciler.standing.is_current(InstanceGuid(each))
        ]
        made.commit(remove_instance(made.state, InstanceGuid(given[0])))
        await _rotated(made, [each for each in guids if each != given[0]], "again")

        assert made.custody.get(InstanceGuid(given[0]), C2C_SECRET) is None


async def test_who_connects_in_a_crowd_is_planned_for_at_its_turn(crowd: State) -> None:
    """Nothing is sent before that, and everything after it, also with certificates from there."""
    made = World(crowd, has_issuers=True)
    async with made.running():
        peers = [made.connect(f"b{number}") for number in range(8)]
        waiting = [each for each in peers if made.nodes.snapshot(each.live.node_id) is None]
        assert len(waiting) == 7
        assert all(each.receive() == [] for each in waiting)
        await eventually(
            lambda: all(made.nodes.snapshot(each.live.node_id) for each in peers), "all have a plan"
        )
        for peer in peers:
            peer.as_envoy()
            assert (SECRET, C2C_SECRET) in peer.has
