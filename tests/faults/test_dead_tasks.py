"""A part of the control plane that dies takes all of it along, and is told of."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from control_plane.app.lifelong import Lifelong
from tests.envoy.harness import DEADLINE
from tests.faults.leftovers import nothing_left
from tests.security.world import control_plane

TASKS = (
    "records",
    "registry",
    "reconciler",
    "presence",
    "tombstones",
    "departures",
    "observed",
    "expiry",
    "refusals",
    "sidecars",
)

DEFECT = """
import asyncio, sys
from control_plane.app import ControlPlane
from control_plane.cli.main import main
from control_plane.reconciler.reconciler import Reconciler

is_up = asyncio.Event()
enter = ControlPlane.__aenter__

async def starts(self):
    plane = await enter(self)
    is_up.set()
    return plane

async def dies(self):
    await is_up.wait()
    raise RuntimeError("a defect")

ControlPlane.__aenter__, Reconciler.run = starts, dies
sys.argv[0] = "c2c"
main()
"""
"""The command that operators type, with a defect in one of its parts once it has started."""


@pytest.mark.parametrize("name", TASKS)
async def test_whichever_part_dies_health_says_so_first(tmp_path: Path, name: str) -> None:
    """The server is draining, and says so, before the death is told to anybody."""
    async with nothing_left(), control_plane(tmp_path) as cf:
        plane = cf.running
        (task,) = [each for each in asyncio.all_tasks() if each.get_name() == name]
        assert not plane.ports.is_draining
        task.cancel("by somebody who may not")
        async with asyncio.timeout(DEADLINE):
            assert await plane.death() == name
        assert plane.ports.is_draining


async def test_no_part_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task that lives as long as the control plane is one of those that die above."""
    started: list[str] = []
    start = Lifelong.start

    def noted(tasks: Lifelong, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        started.append(name)
        return start(tasks, name, work)

    monkeypatch.setattr(Lifelong, "start", noted)
    async with control_plane(tmp_path):
        pass

    assert started == list(TASKS)


def test_the_process_ends_with_a_clear_error(tmp_path: Path) -> None:
    """It drains as ever and fails, so that whoever started it starts it again."""
    words = ["serve", "--data-dir", str(tmp_path / "data"), "--log-format", "json"]
    for port in ("xds", "enroll", "http"):
        words += [f"--{port}-address", "127.0.0.1:0"]
    environ = {name: each for name, each in os.environ.items() if not name.startswith("C2C_")}
    ran = subprocess.run(
        [sys.executable, "-c", DEFECT, *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    *lines, last = ran.stderr.splitlines()
    told = [json.loads(line) for line in lines]
    events = [each["event"] for each in told]
    died = told[events.index("task.died")]

    assert ran.returncode == 1
    assert last == "The reconciler of the control plane died, and the log says of what"
    assert died["task"] == "reconciler"
    assert "RuntimeError: a defect" in json.dumps(died)
    order = ["server.started", "task.died", "server.stopping", "streams.drained", "server.stopped"]
    assert [each for each in events if each in order] == order


async def _returns() -> None:
    """End without anybody having said so."""


async def _raises() -> None:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("work", [_returns, _raises])
async def test_any_end_is_a_death(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A task that is over does nothing, whether something was raised or not."""
    heard: list[str] = []
    tasks = Lifelong(lambda: heard.append("health"))
    with capture_logs() as logs:
        tasks.start("work", work())
        async with asyncio.timeout(DEADLINE):
            assert await tasks.death() == "work"

    assert heard == ["health"]
    assert [(each["event"], each["log_level"], each["task"]) for each in logs] == [
        ("task.died", "error", "work")
    ]


async def test_a_task_that_is_told_to_end_may_end() -> None:
    """A stop is no death, however the task goes; but what it raises then is told of as well."""
    heard: list[str] = []
    tasks = Lifelong(lambda: heard.append("health"))
    closed = asyncio.Event()

    async def until_closed() -> None:
        await closed.wait()

    async def fails_at_the_end() -> None:
        await closed.wait()
        raise RuntimeError("a defect")

    forever = tasks.start("forever", asyncio.sleep(3600))
    await tasks.stop(forever)
    await tasks.finish(tasks.start("closes", until_closed()), closed.set)
    assert heard == []

    await tasks.finish(tasks.start("fails", fails_at_the_end()), closed.set)
    assert heard == ["health"]


async def test_a_task_that_is_told_to_end_is_waited_for() -> None:
    """What it uses is stopped only after it has ended."""
    ended: list[str] = []

    async def tidies_up() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("work")

    tasks = Lifelong(lambda: None)
    work = tasks.start("work", tidies_up())
    await asyncio.sleep(0)
    await tasks.stop(work)

    assert ended == ["work"]
