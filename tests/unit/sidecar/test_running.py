"""How an instance comes to its end, and what holds it up."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import structlog

from control_plane.settings import SocketAddress
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.processes import envoy_admin
from control_plane.sidecar.processes.child import Child
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.reports.report import Reporter
from control_plane.sidecar.running import RunningInstance
from control_plane.sidecar.signals import Signals

LONG = timedelta(seconds=60)


@dataclass(slots=True)
class Told:
    """A control plane that is told that the instance drains, or leaves, and answers after a while.

    Attributes:
        has_left: whether it was told that the instance leaves, and answered that.
    """

    seconds: float = 0
    has_left: bool = False

    async def retire(self) -> None:
        """Hear that the instance drains."""
        assert not self.has_left
        await asyncio.sleep(self.seconds)

    async def leave(self) -> None:
        """Hear that it leaves."""
        await asyncio.sleep(self.seconds)
        self.has_left = True


@asynccontextmanager
async def envoys_admin(
    directory: Path, in_flight: Iterable[int], *, silent_on: str = ""
) -> AsyncIterator[list[str]]:
    """Answer as Envoy does, each time with the next number of requests; yield what was asked.

    A question of the path that is named has no answer.
    """
    asked: list[str] = []
    numbers = iter(in_flight)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1].partition("?")[0])
        if asked[-1] == silent_on:
            await reader.read()
        number = next(numbers) if asked[-1] == "/stats" else 0
        writer.write(f"HTTP/1.1 200 OK\r\n\r\nhttp.stats-a.downstream_rq_active: {number}".encode())
        writer.close()

    async with await asyncio.start_unix_server(accept, directory / "admin.sock"):
        yield asked


async def _ended(
    directory: Path,
    *,
    is_told: bool = True,
    envoy: str = "exec sleep 60",
    app: str | None = None,
    offline_wait: timedelta = timedelta(),
    drain_time: timedelta = LONG,
    answers_after: float | None = None,
) -> tuple[int, list[int]]:
    """Have an instance of these processes come to its end within seconds.

    It is in a hurry if it is said after how many seconds the control plane answers.

    Returns:
        its exit code, and those of its Envoy and its app.
    """
    options = SidecarOptions(
        server=SocketAddress("127.0.0.1", 1), offline_wait=offline_wait, drain_time=drain_time
    )
    commands = [each for each in (envoy, app) if each is not None]
    children = [await Child.start(("sh", "-c", each), os.environ) for each in commands]
    signals, told = Signals(), Told(answers_after or 0)
    if is_told:
        signals.stop.set()
    if answers_after is not None:
        signals.hurry.set()
    instance = RunningInstance(
        children[0],
        children[1] if children[1:] else None,
        EnvoyAdmin(directory / "admin.sock"),
        cast("Reporter", told),
        signals,
        options,
    )
    try:
        async with asyncio.timeout(20):
            code = await instance.to_the_end()
        assert all(each.has_ended for each in children)
        assert told.has_left == (told.seconds < 1)
        return code, [await each.ended() for each in children]
    finally:
        for each in children:
            await each.stop(0, asyncio.Event())


async def test_an_envoy_that_cannot_be_told_to_drain_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody is sent away, so nobody would go."""
    with structlog.testing.capture_logs() as logs:
        await _ended(tmp_path)

    assert logs[-1]["event"] == "envoy.drained"
    assert logs[-1]["reason"].startswith("it was not told to: ")


async def test_an_instance_is_drained_once_nothing_was_in_flight_for_a_while(
    tmp_path: Path,
) -> None:
    """Between two requests of a client there may be a moment without any."""
    numbers = itertools.chain([2, 0, 0, 0, 0, 1], itertools.repeat(0))
    started = time.monotonic()
    async with envoys_admin(tmp_path, numbers) as asked:
        await _ended(tmp_path)

    assert time.monotonic() - started >= 1
    assert asked[:2] == ["/drain_listeners", "/stats"]
    assert asked.count("/stats") >= 6 + 5


async def test_nobody_is_cut_off_who_came_just_before_the_end(tmp_path: Path) -> None:
    """When nothing is in flight the port is closed, and what is in flight then is waited for."""
    numbers = itertools.chain([0] * 5, [1] * 4, itertools.repeat(0))
    async with envoys_admin(tmp_path, numbers) as asked:
        await _ended(tmp_path)

    quiet, later = ["/stats"] * 5, ["/stats"] * (4 + 3 + 1)
    assert asked == ["/drain_listeners", *quiet, "/drain_listeners", *later]


async def test_the_port_is_closed_before_the_drain_time_is_over(tmp_path: Path) -> None:
    """Clients that go on coming are refused then, and not cut off."""
    async with envoys_admin(tmp_path, itertools.repeat(3)) as asked:
        await _ended(tmp_path, drain_time=timedelta(seconds=1))

    assert asked.count("/drain_listeners") == 2
    assert asked[-1] == "/stats"


async def test_who_does_not_go_has_the_drain_time(tmp_path: Path) -> None:
    """How many are cut off is said."""
    async with envoys_admin(tmp_path, itertools.repeat(3)):
        with structlog.testing.capture_logs() as logs:
            await _ended(tmp_path, drain_time=timedelta(seconds=0.3))

    assert [each["in_flight"] for each in logs if each["event"] == "envoy.drained"] == [3]


async def test_an_envoy_that_is_slow_to_answer_is_drained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told, so its clients go; how busy it is they do not have to pay for."""
    monkeypatch.setattr(envoy_admin, "ANSWER_SECONDS", 0.1)
    numbers = itertools.chain([2] * 5, itertools.repeat(0))
    async with envoys_admin(tmp_path, numbers, silent_on="/drain_listeners") as asked:
        with structlog.testing.capture_logs() as logs:
            await _ended(tmp_path)

    assert [each["in_flight"] for each in logs if each["event"] == "envoy.drained"] == [0]
    assert asked.count("/stats") >= 5 + 5


async def test_an_envoy_that_says_nothing_may_have_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever they are, they have the drain time."""
    monkeypatch.setattr(envoy_admin, "ANSWER_SECONDS", 0.05)
    started = time.monotonic()
    async with envoys_admin(tmp_path, [], silent_on="/stats"):
        with structlog.testing.capture_logs() as logs:
            await _ended(tmp_path, drain_time=timedelta(seconds=2))

    assert time.monotonic() - started >= 2
    assert [each["in_flight"] for each in logs if each["event"] == "envoy.drained"] == [None]


async def test_an_app_that_ends_meanwhile_ends_each_wait(tmp_path: Path) -> None:
    """There is nobody left to send requests to; the code is the app's."""
    async with envoys_admin(tmp_path, itertools.repeat(3)):
        code, _ = await _ended(tmp_path, app="sleep 0.5; exit 7", offline_wait=LONG)

    assert code == 7


async def test_an_envoy_that_ends_while_it_drains_ends_that(tmp_path: Path) -> None:
    """The app is ended then; without one the code is Envoy's."""
    async with envoys_admin(tmp_path, itertools.repeat(3)):
        assert await _ended(tmp_path, envoy="sleep 0.5; exit 5") == (5, [5])


@pytest.mark.parametrize("silent_on", ["/drain_listeners", "/stats"])
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_hurry_waits_for_nobody(tmp_path: Path, silent_on: str, *, is_there: bool) -> None:
    """Neither for an Envoy nor for a control plane that does not answer; one that does hears it."""
    started = time.monotonic()
    async with envoys_admin(tmp_path, [], silent_on=silent_on):
        answers_after = 0.1 if is_there else 10
        await _ended(tmp_path, app="exec sleep 60", answers_after=answers_after)

    assert time.monotonic() - started < 1.5


async def test_an_app_that_ends_by_itself_ends_envoy(tmp_path: Path) -> None:
    """The control plane hears of it, and Envoy ends in order: nobody is there to drain it for."""
    ended = await _ended(tmp_path, is_told=False, app="sleep 0.1; exit 7")

    assert ended == (7, [128 + signal.SIGTERM, 7])


async def test_an_envoy_that_ends_by_itself_ends_the_app(tmp_path: Path) -> None:
    """The control plane hears of it, and the app has its time to end in order."""
    app = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    ended = await _ended(tmp_path, is_told=False, envoy="sleep 1; exit 5", app=app)

    assert ended == (5, [5, 3])
