"""When a sidecar reports, and what it makes of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from grpc.aio import AioRpcError, Metadata

from control_plane.api.v1 import sidecar_pb2
from control_plane.names import Port
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.reports.app_ports import AppPorts, LivePorts
from control_plane.sidecar.reports.readiness import UNSEEN, Observation
from control_plane.sidecar.reports.report import SETTLE_SECONDS, Reporter
from control_plane.sidecar.services import keep_running
from tests.unit.reconciler.clocks import ManualClock, settled
from tests.unit.sidecar.members import authority, credentials, membership

pytestmark = pytest.mark.usefixtures("disk_at_once")

READY = Observation(listening=True, exposed_ports=(), served_serial="a1")


@dataclass(slots=True)
class Instance:
    """An instance that is as the test says; ``looks`` counts how often somebody looked."""

    now: Observation = UNSEEN
    looks: int = 0

    async def observe(self) -> Observation:
        """Return what the test says."""
        self.looks += 1
        return self.now


@dataclass(slots=True)
class Server:
    """A control plane that keeps a report until the test answers it.

    Attributes:
        reports: every report, in order.
        answer: what the next ones are answered with; None keeps them.
        is_brief: whether it answers one report only, and keeps the next.
        came_back: set once it is there anew.
        said: what it says besides.
    """

    reports: list[sidecar_pb2.ReportRequest] = field(default_factory=list)
    answer: sidecar_pb2.ReportResponse | grpc.StatusCode | None = None
    is_brief: bool = False
    is_closed: bool = False
    came_back: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Queue[sidecar_pb2.ReportResponse] = field(default_factory=asyncio.Queue)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _is_busy: bool = False

    async def report(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Take a report, one at a time."""
        assert seconds > 0
        assert not self._is_busy
        self.reports.append(request)
        self._is_busy = True
        try:
            while (answer := self.answer) is None:
                await self._answered.wait()
        finally:
            self._is_busy = False
        if self.is_brief:
            self.answer = None
            self._answered.clear()
        if isinstance(answer, grpc.StatusCode):
            raise AioRpcError(answer, Metadata(), Metadata(), details="away")
        return answer

    keep_reporting = report

    async def hear(self) -> sidecar_pb2.ReportResponse:
        """Return what the test says."""
        return await self.said.get()

    async def reconnected(self) -> None:
        """Return once the test says so."""
        await self.came_back.wait()

    async def close(self) -> None:
        """Take no more."""
        self.is_closed = True

    def answer_all(self, expected_serial: str = "", *, again: float = 10, bundle: str = "") -> None:
        """Answer what waits, and whatever comes."""
        self.answer = sidecar_pb2.ReportResponse(
            expected_serial=expected_serial,
            report_again_in=Duration(nanos=int(again * 1e9) % 10**9, seconds=int(again)),
            trust_bundle=bundle,
        )
        self._answered.set()


@dataclass(frozen=True, slots=True)
class World:
    """A reporter with a clock that the test moves."""

    clock: ManualClock
    instance: Instance
    server: Server
    live: LiveCredentials
    ports: LivePorts
    reporter: Reporter


@asynccontextmanager
async def world(directory: Path, *, is_running: bool = True) -> AsyncIterator[World]:
    """Report until the block ends."""
    files, member = SidecarDirectory(directory), membership(authority())
    clock, instance, server = ManualClock(), Instance(), Server()
    live = LiveCredentials(files, member.credentials)
    ports = LivePorts(files, member.enrollment)
    reporter = Reporter(server, live, ports, instance, clock=clock, draw=lambda: 1.0)
    running = asyncio.ensure_future(reporter.run()) if is_running else None
    try:
        await settled()
        yield World(clock, instance, server, live, ports, reporter)
    finally:
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        files.close()


async def renew(here: World) -> None:
    """Have the instance be given another identity."""
    before = here.live.current
    newer = credentials(authority(), serial=2)
    await here.live.renewed(newer.identity, before.trust_bundle, asked=before)


async def test_a_report_that_is_kept_is_not_repeated(tmp_path: Path) -> None:
    """The control plane answers when it has something to say; until then one report is enough."""
    async with world(tmp_path) as here:
        await here.clock.advance(9)

        assert len(here.server.reports) == 1


async def test_a_change_is_told_while_the_last_report_is_still_kept(tmp_path: Path) -> None:
    """An app that begins to listen does not wait for a control plane that has nothing to say."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        await here.clock.advance(2)

        assert [each.listening for each in here.server.reports] == [False, True]


async def test_everything_is_told_again_when_it_is_asked_for(tmp_path: Path) -> None:
    """The control plane says how long a report counts."""
    async with world(tmp_path) as here:
        here.server.answer_all(again=10)
        await here.clock.advance(9.5)
        assert len(here.server.reports) == 1
        await here.clock.advance(1)
        assert len(here.server.reports) == 2


async def test_a_control_plane_cannot_ask_for_a_flood(tmp_path: Path) -> None:
    """Whatever it asks for, a second lies between two reports of the same."""
    async with world(tmp_path) as here:
        here.server.answer_all(again=0.001)
        await here.clock.advance(10)

        assert len(here.server.reports) <= 11


async def test_a_certificate_that_should_be_served_is_looked_for_at_once(tmp_path: Path) -> None:
    """Somebody waits for the proof, so the instance is looked at many times in a second."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        await here.clock.advance(30)
        looked = here.instance.looks
        here.server.answer_all(expected_serial="b2", again=60)
        await here.clock.advance(0.5)

        assert here.instance.looks - looked >= 4


async def test_a_certificate_that_comes_late_is_seen_within_a_second(tmp_path: Path) -> None:
    """However long it should have been served, no more than that lies between two looks."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        here.server.answer_all("b2", again=60)
        await here.clock.advance(50)
        told = len(here.server.reports)
        here.instance.now = replace(READY, served_serial="b2")
        await here.clock.advance(0.9)

        assert [each.served_serial for each in here.server.reports[told:]] == ["b2"]


async def test_an_instance_that_has_just_changed_is_looked_at_closely(tmp_path: Path) -> None:
    """One change seldom comes alone: an app that is back may go again at once."""
    async with world(tmp_path) as here:
        await here.clock.advance(60)
        here.instance.now = READY
        await here.clock.advance(2)
        looked = here.instance.looks
        here.instance.now = UNSEEN
        await here.clock.advance(0.3)

        assert here.instance.looks > looked
        assert [each.listening for each in here.server.reports] == [False, True, False]


async def test_an_answer_that_says_nothing_new_is_no_reason_for_anything(tmp_path: Path) -> None:
    """Nobody looks closer, and the identity is kept to its time."""
    async with world(tmp_path) as here:
        here.server.answer_all(READY.served_serial, again=10)
        here.instance.now = READY
        await here.clock.advance(60)
        looked = here.instance.looks
        await here.clock.advance(60)

        assert here.instance.looks - looked <= 31 + 6
        assert not here.live.renewal_wanted.is_set()


async def test_a_control_plane_that_does_not_say_when_is_told_again_in_a_while(
    tmp_path: Path,
) -> None:
    """Nothing is not the least time that it may ask for."""
    async with world(tmp_path) as here:
        here.server.answer_all(again=0)
        await here.clock.advance(29)
        assert len(here.server.reports) == 1
        await here.clock.advance(2)
        assert len(here.server.reports) == 2


async def test_an_instance_that_stays_as_it_is_is_left_in_peace(tmp_path: Path) -> None:
    """The app sees a connection in two seconds, no more, also while no certificate is expected."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        await here.clock.advance(60)
        looked = here.instance.looks
        await here.clock.advance(60)

        assert here.instance.looks - looked <= 31


async def test_a_silent_control_plane_is_said_once_and_not_flooded(tmp_path: Path) -> None:
    """Changes are no reason to try sooner; the log has one warning, and one line for the end."""
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path) as here:
            here.server.answer = grpc.StatusCode.UNAVAILABLE
            for _ in range(30):
                here.instance.now = UNSEEN if here.instance.now is READY else READY
                await here.clock.advance(4)
            here.instance.now = READY
            reports = len(here.server.reports)
            here.server.answer_all()
            await here.clock.advance(31)

    assert reports < 15
    said = [(each["event"], each["log_level"]) for each in logs if each["log_level"] != "debug"]
    assert [each for each in said if each[0] != "app.listening"] == [
        ("report.failed", "warning"),
        ("report.accepted", "info"),
    ]


@pytest.mark.parametrize("listens_after", [None, 5, 15], ids=["never", "soon", "late"])
async def test_an_app_that_does_not_come_is_said_once(
    tmp_path: Path, listens_after: float | None
) -> None:
    """Whoever reads the log of a sidecar sees what it waits for; an app has time to start."""
    closed = replace(UNSEEN, closed_ports=(Port(8080), Port(9090)))
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path) as here:
            here.server.answer_all()
            here.instance.now = closed
            await here.clock.advance(listens_after or 15)
            if listens_after:
                here.instance.now = replace(READY, closed_ports=(Port(9090),))
                await here.clock.advance(15)
            here.instance.now = closed
            await here.clock.advance(15)

    said = [each["ports"] for each in logs if each["event"] == "app.awaited"]
    assert said == ([] if listens_after == 5 else [(8080, 9090)])


async def test_a_control_plane_that_is_back_hears_of_it_at_once(tmp_path: Path) -> None:
    """What it was told last may be that the instance leaves, and nobody lets in who left."""
    async with world(tmp_path) as here:
        here.server.answer = grpc.StatusCode.UNAVAILABLE
        here.server._answered.set()
        await here.clock.advance(60)
        reports = len(here.server.reports)
        assert reports > 5
        here.server.answer_all()
        await settled()
        assert len(here.server.reports) == reports
        here.server.came_back.set()
        await settled()

        assert len(here.server.reports) == reports + 1


async def test_a_control_plane_that_takes_no_reports_is_left_alone(tmp_path: Path) -> None:
    """An older one says UNIMPLEMENTED, and hears nothing for ten minutes; the looking goes on."""
    async with world(tmp_path) as here:
        here.server.answer = grpc.StatusCode.UNIMPLEMENTED
        here.instance.now = READY
        await here.clock.advance(500)
        reports, looks = len(here.server.reports), here.instance.looks
        await here.clock.advance(200)

        assert reports == 2
        assert len(here.server.reports) == 3
        assert here.instance.looks > looks + 50


async def test_a_new_trust_bundle_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    """The CA certificates come with each answer; nonsense changes nothing but the log."""
    new = authority("new CA").trust_bundle_pem
    async with world(tmp_path) as here:
        here.server.answer_all(again=5, bundle=new.decode())
        await settled()
        assert here.live.current.trust_bundle == new
        with structlog.testing.capture_logs() as logs:
            here.server.answer_all(again=5, bundle="nonsense")
            await here.clock.advance(6)

        assert here.live.current.trust_bundle == new
        assert logs[0]["event"] == "report.failed"
        assert logs[0]["reason"] == "trust bundle: not X.509 certificates in PEM"


async def test_who_leaves_says_so_and_nothing_more(tmp_path: Path) -> None:
    """A report that was kept is given up for it, and none follows that could bring it back."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        await here.clock.advance(2)
        leaving = asyncio.ensure_future(here.reporter.leave())
        await settled()
        here.server.answer_all(again=1)
        await leaving
        here.instance.now = UNSEEN
        await here.clock.advance(60)

        assert [each.leaving for each in here.server.reports] == [False, False, True]
        assert here.server.is_closed


async def test_who_retires_says_so_at_once_and_from_then_on(tmp_path: Path) -> None:
    """Every later report says so too, since a control plane that starts anew has to hear of it."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        await here.clock.advance(2)
        retiring = asyncio.ensure_future(here.reporter.retire())
        await settled()
        here.server.answer_all(again=5)
        await retiring
        await here.clock.advance(6)
        here.instance.now = UNSEEN
        await here.clock.advance(2)
        await here.reporter.leave()

        said = [(each.draining, each.leaving) for each in here.server.reports]
        assert said[:3] == [(False, False), (False, False), (True, False)]
        assert set(said[3:-1]) == {(True, False)}
        assert said[-1] == (True, True)


async def test_who_retires_while_the_control_plane_is_away_says_so_later(tmp_path: Path) -> None:
    """Otherwise names would lead there until the instance has stopped."""
    async with world(tmp_path) as here:
        here.server.answer = grpc.StatusCode.UNAVAILABLE
        here.server._answered.set()
        await here.clock.advance(1)
        await here.reporter.retire()
        here.server.answer_all(again=5)
        reports = len(here.server.reports)
        await here.clock.advance(60)

        assert len(here.server.reports) > reports
        assert here.server.reports[-1].draining


async def test_who_left_is_not_started_anew(tmp_path: Path) -> None:
    """A service that returns is, and would look at an app that is about to end."""
    async with world(tmp_path, is_running=False) as here:
        here.server.answer_all()
        keeping = asyncio.ensure_future(
            keep_running([here.reporter], clock=here.clock, draw=lambda: 1.0)
        )
        await here.clock.advance(10)
        await here.reporter.leave()
        looks = here.instance.looks
        await here.clock.advance(60)
        keeping.cancel()
        await asyncio.wait([keeping])

        assert here.instance.looks == looks > 0


async def test_who_never_ran_can_leave_too(tmp_path: Path) -> None:
    """An instance that is stopped while it starts says so like any other."""
    async with world(tmp_path, is_running=False) as here:
        here.server.answer_all()
        await here.reporter.first()
        await here.reporter.leave()

        assert [each.leaving for each in here.server.reports] == [False, True]


async def test_an_exposed_port_is_warned_of_when_it_changes(tmp_path: Path) -> None:
    """The warning comes with each change for the worse, and not with each look."""
    exposed = Observation(listening=True, exposed_ports=(Port(8080),), served_serial="")
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path) as here:
            here.server.answer_all()
            for now in (exposed, READY, exposed):
                here.instance.now = now
                await here.clock.advance(10)

    assert [each["ports"] for each in logs if each["event"] == "app.exposed"] == [(8080,), (8080,)]
    assert [list(each.exposed_ports) for each in here.server.reports].count([8080]) >= 2


async def test_a_new_bundle_is_told_at_once(tmp_path: Path) -> None:
    """The control plane signs with another CA when every sidecar has said that it trusts it."""
    async with world(tmp_path) as here:
        new = authority("new CA")
        bundle = here.live.current.trust_bundle + new.trust_bundle_pem
        here.server.answer_all(bundle=bundle.decode())
        await here.clock.advance(0.1)

        told = [list(each.trusted_roots) for each in here.server.reports]
        (old,) = told[0]
        assert told == [[old], [old, new.fingerprint]]


async def test_what_is_said_between_two_reports_is_heard(tmp_path: Path) -> None:
    """Whom to trust is taken and told at once, and a renewal is wanted at once."""
    async with world(tmp_path) as here:
        here.server.answer_all(again=10)
        await here.clock.advance(5)
        bundle = here.live.current.trust_bundle + authority("new CA").trust_bundle_pem
        here.server.said.put_nowait(
            sidecar_pb2.ReportResponse(trust_bundle=bundle.decode(), renew_identity=True)
        )
        await settled()

        assert here.live.current.trust_bundle == bundle
        assert [len(each.trusted_roots) for each in here.server.reports] == [1, 2]
        assert here.live.renewal_wanted.is_set()


async def test_what_is_said_between_two_reports_puts_none_off(tmp_path: Path) -> None:
    """A control plane that says the same again and again hears of the instance when it asked to."""
    async with world(tmp_path) as here:
        here.server.answer_all("b2", again=10)
        for _ in range(10):
            await here.clock.advance(9)
            here.server.said.put_nowait(
                sidecar_pb2.ReportResponse(
                    expected_serial="b2", report_again_in=Duration(seconds=10)
                )
            )
            await settled()

        assert len(here.server.reports) == 10


async def test_a_certificate_is_looked_for_that_is_named_between_two_reports(
    tmp_path: Path,
) -> None:
    """Two rotations may follow each other sooner than reports do."""
    async with world(tmp_path) as here:
        here.instance.now = READY
        here.server.answer_all(again=60)
        await here.clock.advance(30)
        looked = here.instance.looks
        here.server.said.put_nowait(sidecar_pb2.ReportResponse(expected_serial="b2"))
        await here.clock.advance(0.5)

        assert here.instance.looks - looked >= 4


async def test_a_bundle_that_cannot_be_read_is_no_reason_to_shout(tmp_path: Path) -> None:
    """What is trusted has not changed, so there is nothing to tell."""
    async with world(tmp_path) as here:
        here.server.answer_all(bundle="none")
        await here.clock.advance(0.1)

        assert len(here.server.reports) == 1


async def test_ports_that_come_back_are_looked_at_at_once(tmp_path: Path) -> None:
    """An app that moved to another port is waited for, so nobody waits for the next look."""
    async with world(tmp_path) as here:
        await here.clock.advance(60)
        looked = here.instance.looks
        here.server.answer = sidecar_pb2.ReportResponse(app_ports=[8080, 9090], c2c_port=9090)
        here.server._answered.set()
        await here.clock.advance(0.5)

        assert here.ports.current == AppPorts((Port(8080), Port(9090)), Port(9090))
        assert here.instance.looks - looked >= 4


async def test_ports_that_are_none_change_nothing_but_the_log(tmp_path: Path) -> None:
    """A control plane that has gone mad does not take the sidecar along."""
    async with world(tmp_path) as here:
        before = here.ports.current
        with structlog.testing.capture_logs() as logs:
            here.server.answer = sidecar_pb2.ReportResponse(app_ports=[70000], c2c_port=70000)
            here.server._answered.set()
            await settled()

        assert here.ports.current == before
        assert logs[0]["reason"].startswith("ports of the app: invalid port 70000")


async def test_a_disk_that_is_full_is_said_once_in_a_while(tmp_path: Path) -> None:
    """What cannot be kept is tried with each answer, and the log may be on the same disk."""
    async with world(tmp_path) as here:
        (tmp_path / "enrollment.json.new").mkdir()  # in the way of each file that is written
        here.server.answer = sidecar_pb2.ReportResponse(
            app_ports=[8080, 9091], c2c_port=8080, report_again_in=Duration(seconds=10)
        )
        here.server._answered.set()
        with structlog.testing.capture_logs() as logs:
            await here.clock.advance(100)
        reports = len(here.server.reports)

    assert reports >= 9
    told = [each["log_level"] for each in logs if each["event"] == "report.failed"]
    assert told[0] == "error"
    assert set(told[1:]) == {"debug"}


async def test_a_report_says_which_ports_it_is_about(tmp_path: Path) -> None:
    """The control plane tells of others if those are not the right ones any more."""
    async with world(tmp_path) as here:
        here.instance.now = replace(
            READY, open_ports=(Port(9090),), closed_ports=(Port(9191),), c2c_port=Port(9090)
        )
        await here.clock.advance(2)

        assert [each.c2c_port for each in here.server.reports] == [0, 9090]
        assert [list(each.open_ports) for each in here.server.reports] == [[], [9090]]
        assert [list(each.closed_ports) for each in here.server.reports] == [[], [9191]]


@pytest.mark.parametrize("is_current", [True, False])
async def test_a_renewal_is_asked_for(tmp_path: Path, *, is_current: bool) -> None:
    """It is for the identity that reported, and not for one that came meanwhile."""
    async with world(tmp_path) as here:
        if not is_current:
            await renew(here)
        here.server.is_brief = True  # the newer identity is told at once too, and is another matter
        here.server.answer = sidecar_pb2.ReportResponse(renew_identity=True)
        here.server._answered.set()
        await settled()

        assert here.live.renewal_wanted.is_set() is is_current


@pytest.mark.parametrize("is_current", [True, False])
async def test_who_is_known_no_more_asks_for_another_identity(
    tmp_path: Path, *, is_current: bool
) -> None:
    """Only with that is an instance registered again whose address another one had meanwhile."""
    async with world(tmp_path) as here:
        if not is_current:
            await renew(here)
        here.server.is_brief = True
        here.server.answer = grpc.StatusCode.PERMISSION_DENIED
        here.server._answered.set()
        await settled()

        assert here.live.renewal_wanted.is_set() is is_current


async def test_who_is_known_no_more_and_leaves_asks_for_nothing(tmp_path: Path) -> None:
    """It would be registered again, and nobody would hear that it left."""
    async with world(tmp_path, is_running=False) as here:
        here.server.answer = grpc.StatusCode.PERMISSION_DENIED
        await here.reporter.leave()

        assert not here.live.renewal_wanted.is_set()


async def test_an_identity_is_not_renewed_because_the_control_plane_is_away(
    tmp_path: Path,
) -> None:
    """Nothing says that it is worth less than before."""
    async with world(tmp_path) as here:
        here.server.answer = grpc.StatusCode.UNAVAILABLE
        here.server._answered.set()
        await settled()

        assert not here.live.renewal_wanted.is_set()


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_new_identity_is_reported_with_soon(tmp_path: Path, *, is_answered: bool) -> None:
    """Envoy has time to be back with it first; then no stream shows the one before any more."""
    async with world(tmp_path) as here:
        if is_answered:
            here.server.answer_all(again=30)
        await here.clock.advance(5)

        assert len(here.server.reports) == 1

        await renew(here)
        await here.clock.advance(SETTLE_SECONDS - 1)

        assert len(here.server.reports) == 1

        await here.clock.advance(1)

        assert len(here.server.reports) == 2

        await here.clock.advance(5)

        assert len(here.server.reports) == 2
