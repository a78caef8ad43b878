"""The calls by which an instance reports: the last word is the last one that is heard."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc.aio import AioRpcError

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.settings import SocketAddress
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.reports import calls as module
from control_plane.sidecar.reports.calls import ControlPlaneCalls
from tests.envoy.harness import until
from tests.waiting import eventually


class ControlPlane(sidecar_pb2_grpc.SidecarServiceServicer):
    """Takes reports, those of a stream not before the test says so.

    Attributes:
        heard: of each report whether the instance leaves, in order.
        answers: what it says to each report of a stream, one after the other.
        has_ended: whether it ends each stream that is opened.
        streams: how many were opened.
    """

    def __init__(self) -> None:
        """Start with nothing heard."""
        self.heard: list[bool] = []
        self.answers: list[sidecar_pb2.ReportResponse] = []
        self.has_ended = False
        self.streams = 0
        self.began = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.ended = asyncio.Event()

    async def Report(
        self, request: sidecar_pb2.ReportRequest, context: object
    ) -> sidecar_pb2.ReportResponse:
        """Take one."""
        self.heard.append(request.leaving)
        await self.may_answer.wait()
        return sidecar_pb2.ReportResponse()

    async def KeepReporting(  # type: ignore[override]  # the stubs know generators only
        self, _: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Take those of a stream."""
        self.streams += 1
        self.began.set()
        try:
            await self.may_read.wait()
            while not self.has_ended:
                request = await context.read()
                if not isinstance(request, sidecar_pb2.ReportRequest):
                    break
                self.heard.append(request.leaving)
                for answer in self.answers:
                    await context.write(answer)
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(control_plane: ControlPlane, socket: Path) -> AsyncIterator[None]:
    """Have a control plane there until the block ends."""
    server = grpc.aio.server()
    sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(control_plane, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@pytest.fixture
def live() -> SimpleNamespace:
    """Return the credentials of the moment, which nobody looks at."""
    return SimpleNamespace(current=object())


@pytest.fixture
def calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: SimpleNamespace
) -> ControlPlaneCalls:
    """Return the calls to a control plane at this socket."""

    def channel(*_: object) -> grpc.aio.Channel:
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        return grpc.aio.insecure_channel(f"unix:{tmp_path}/socket", options)

    monkeypatch.setattr(module, "instance_channel", channel)
    return ControlPlaneCalls(SocketAddress("127.0.0.1", 1), cast("LiveCredentials", live))


async def test_nothing_is_heard_after_the_last_word(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """A report that was on its way when the instance left would bring it back."""
    control_plane = ControlPlane()
    control_plane.may_answer.set()
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        telling = asyncio.create_task(calls.keep_reporting(sidecar_pb2.ReportRequest(), 10))
        await control_plane.began.wait()
        telling.cancel()
        await calls.report(sidecar_pb2.ReportRequest(leaving=True), 10)
        control_plane.may_read.set()
        await control_plane.ended.wait()
        await calls.close()

    assert control_plane.heard == [True]


async def test_what_is_said_besides_an_answer_is_heard_too(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """In the order in which it was said; before the first report there is nothing to hear."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    control_plane.answers = [sidecar_pb2.ReportResponse(expected_serial=each) for each in "abc"]
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        hearing = asyncio.create_task(calls.hear())
        await asyncio.sleep(0)  # it begins before there is a stream
        answers = [await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)]
        answers += [await calls.hear() for _ in range(2)]
        assert not hearing.done()
        hearing.cancel()
        await calls.close()

    assert answers == control_plane.answers


async def test_what_was_said_before_a_report_is_no_answer_to_it(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """It may say to wait for what the report has just told."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    early, late, answer = (sidecar_pb2.ReportResponse(expected_serial=each) for each in "abc")
    control_plane.answers = [early, late]
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        assert await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10) == early
        exchange = calls._exchange
        assert exchange is not None
        await eventually(lambda: not exchange._said.empty(), "the rest was said")
        control_plane.answers = [answer]

        assert await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10) == answer
        await calls.close()


async def test_who_gives_up_waiting_may_report_again(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """What is said then is for the new report, on the same stream."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        given_up = asyncio.create_task(calls.keep_reporting(sidecar_pb2.ReportRequest(), 10))
        await eventually(lambda: control_plane.heard, "the report is heard")
        given_up.cancel()
        await asyncio.wait([given_up])
        control_plane.answers = [sidecar_pb2.ReportResponse(expected_serial="a")]

        answer = await calls.keep_reporting(sidecar_pb2.ReportRequest(), 5)
        await calls.close()

    assert answer == control_plane.answers[0]
    assert control_plane.streams == 1


async def test_a_stream_that_ended_leaves_no_task(calls: ControlPlaneCalls, tmp_path: Path) -> None:
    """Else each stop of the control plane would leave some for as long as the sidecar runs."""
    control_plane = _answering()
    control_plane.has_ended = True
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        with pytest.raises(AioRpcError):
            await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)

        await eventually(lambda: not _tasks_of_streams(), "no task is left")
        await calls.close()


def _tasks_of_streams() -> list[str]:
    names = (getattr(each.get_coro(), "__qualname__", "") for each in asyncio.all_tasks())
    return [name for name in names if name.startswith(("_Exchange.", "Queue."))]


async def test_a_control_plane_that_comes_back_is_noticed(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """Who waits for a connection does not take for a new one what was there before."""
    socket = tmp_path / "socket"
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(calls.reconnected())
        with pytest.raises(AioRpcError, match="UNAVAILABLE"):
            await calls.report(sidecar_pb2.ReportRequest(), 10)
        assert not waiting.done()
        control_plane = ControlPlane()
        control_plane.may_answer.set()
        async with serving(control_plane, socket):
            await waiting
            again = asyncio.create_task(calls.reconnected())
            await calls.report(sidecar_pb2.ReportRequest(), 10)
            assert not again.done()
        with pytest.raises(AioRpcError, match="UNAVAILABLE"):
            await calls.report(sidecar_pb2.ReportRequest(), 10)
        assert not again.done()
        async with serving(control_plane, socket):
            await again
        await calls.close()


async def test_a_new_identity_is_shown_on_a_new_connection(
    calls: ControlPlaneCalls, tmp_path: Path, live: SimpleNamespace
) -> None:
    """The control plane lets in an identity that was renewed for a moment only."""
    control_plane = _answering()
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        assert control_plane.streams == 1
        live.current = object()
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        await control_plane.ended.wait()
        await calls.close()

    assert control_plane.streams == 2


async def test_a_control_plane_that_says_nothing_is_left(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """It may be gone without a word: the next report goes over another stream."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        with pytest.raises(AioRpcError) as raised:
            await calls.keep_reporting(sidecar_pb2.ReportRequest(), 0.1)
        await control_plane.ended.wait()
        control_plane.answers = [sidecar_pb2.ReportResponse()]
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        await calls.close()

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert raised.value.details() == "no answer from 127.0.0.1:1 within 0.1 s"


async def test_a_last_word_that_is_not_answered_is_not_waited_for(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """An instance that ends has only so much time."""
    async with serving(ControlPlane(), tmp_path / "socket"), asyncio.timeout(10):
        with pytest.raises(AioRpcError, match="DEADLINE_EXCEEDED") as raised:
            await calls.report(sidecar_pb2.ReportRequest(leaving=True), 0.1)
        await calls.close()

    assert raised.value.details() == "no answer from 127.0.0.1:1 within 0.1 s"


async def test_a_stream_that_the_control_plane_ends_is_opened_anew(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """It does so when it stops, and when the instance reports on a newer stream."""
    control_plane = _answering()
    control_plane.has_ended = True
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        with pytest.raises(AioRpcError):
            await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        control_plane.has_ended = False
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        await calls.close()

    assert control_plane.streams == 2


async def test_who_reports_no_more_leaves_no_stream(
    calls: ControlPlaneCalls, tmp_path: Path
) -> None:
    """Else the control plane would wait for the next report."""
    control_plane = _answering()
    async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(10):
        await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
        await calls.close()
        await control_plane.ended.wait()


def _answering() -> ControlPlane:
    """Return a control plane that answers each report of a stream once."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    control_plane.answers = [sidecar_pb2.ReportResponse()]
    return control_plane


async def test_with_other_credentials_the_connections_of_before_are_ended(
    calls: ControlPlaneCalls, tmp_path: Path, live: SimpleNamespace
) -> None:
    """Once the new ones are used: the control plane counts each as an open file, for half a day."""
    control_plane = ControlPlane()
    control_plane.may_read.set()
    control_plane.answers = [sidecar_pb2.ReportResponse()]

    async def is_one() -> bool:
        return connections(tmp_path / "socket") == 1

    gc.collect()
    gc.disable()  # or Python might do by chance what has to be done here
    try:
        async with serving(control_plane, tmp_path / "socket"), asyncio.timeout(30):
            for _ in range(3):
                await calls.keep_reporting(sidecar_pb2.ReportRequest(), 10)
                assert connections(tmp_path / "socket")
                await until(is_one, what="one connection")
                live.current = object()
            await calls.close()
    finally:
        gc.enable()


def connections(socket: Path) -> int:
    """Return how many are open to a socket, as proc_net_unix(5) has them."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[-1] == str(socket) and line[5] == "03" for line in lines)
