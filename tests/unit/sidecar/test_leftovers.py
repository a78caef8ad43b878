"""What a sidecar that was killed left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.processes import envoy_admin
from control_plane.sidecar.processes import leftovers as module
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.processes.group import running
from control_plane.sidecar.processes.leftovers import Leftovers

INSTANCE = "3d3b1b2e-5c1f-4d6a-9d53-8a3f6f0f1c11"


def _leftovers(path: Path) -> Leftovers:
    directory = SidecarDirectory(path)
    return Leftovers(directory, EnvoyAdmin(directory.admin_socket), SystemClock(), 0.1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "one", "began": ""}'])
async def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    """Nothing is ended by guess, and nothing is kept from starting."""
    leftovers = _leftovers(tmp_path)
    file = tmp_path / module.APP_FILE
    file.write_text(content)
    file.chmod(0o600)
    with structlog.testing.capture_logs() as logs:
        await leftovers.end()

    assert logs == []


async def test_an_app_that_may_not_be_ended_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the port, and belongs to somebody else: the sentence says which process to kill."""

    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    leftovers = _leftovers(tmp_path)
    app = await asyncio.create_subprocess_exec("sleep", "60", process_group=0)
    leftovers.note_app(app.pid, INSTANCE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refuse)
        patch.setattr(module, "LEFTOVER_SECONDS", 0.1)
        with pytest.raises(ConfigurationError, match=f"does not end: kill process {app.pid}"):
            await leftovers.end()
    await leftovers.end()

    assert await app.wait() < 0


async def test_an_envoy_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the ports, and says nothing: the kernel tells whose socket that is."""
    monkeypatch.setattr(module, "LEFTOVER_SECONDS", 0.1)
    monkeypatch.setattr(envoy_admin, "ANSWER_SECONDS", 0.1)
    silent = """
import socket, sys, time
admin = socket.socket(socket.AF_UNIX)
admin.bind(sys.argv[1])
admin.listen()
print(flush=True)
time.sleep(60)
"""
    leftovers = _leftovers(tmp_path)
    envoy = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", silent, leftovers.directory.admin_socket),
        stdout=asyncio.subprocess.PIPE,
    )
    assert envoy.stdout is not None
    await envoy.stdout.readline()
    try:
        with pytest.raises(ConfigurationError, match=f"does not end: kill process {envoy.pid}$"):
            await leftovers.end()
    finally:
        envoy.kill()
        await envoy.wait()


async def test_an_app_that_cannot_be_noted_runs_all_the_same(tmp_path: Path) -> None:
    """A disk that is full is a reason to say so, and none to end it."""
    leftovers = _leftovers(tmp_path)
    (tmp_path / f"{module.APP_FILE}.new").mkdir()  # in the way of the file that is written
    with structlog.testing.capture_logs() as logs:
        leftovers.note_app(os.getpid(), INSTANCE)

    assert [(each["event"], each["log_level"]) for each in logs] == [("app.not_noted", "error")]
    assert module.APP_FILE in logs[0]["reason"]


async def test_the_app_of_a_copied_directory_is_left_alone(tmp_path: Path) -> None:
    """It runs for the sidecar of the directory that was copied; one that was moved is the same."""
    leftovers = _leftovers(tmp_path / "of the app")
    app = await asyncio.create_subprocess_exec("sleep", "60", process_group=0)
    leftovers.note_app(app.pid, INSTANCE)
    leftovers.directory.close()
    shutil.copytree(tmp_path / "of the app", tmp_path / "copy")
    with structlog.testing.capture_logs() as logs:
        await _leftovers(tmp_path / "copy").end()
    assert (logs, app.returncode) == ([], None)

    (tmp_path / "of the app").rename(tmp_path / "moved")
    await _leftovers(tmp_path / "moved").end()
    assert await app.wait() < 0


async def test_an_app_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    """The system tells its name as it is, in the middle of what counts."""
    program = tmp_path / os.fsdecode(b"a) Z \xff")
    program.symlink_to(shutil.which("sleep") or "")
    leftovers = _leftovers(tmp_path)
    app = await asyncio.create_subprocess_exec(program, "60", process_group=0)
    leftovers.note_app(app.pid, INSTANCE)
    await leftovers.end()

    assert await app.wait() == -signal.SIGTERM


async def test_what_a_script_started_has_the_time_to_end(tmp_path: Path) -> None:
    """The shell ends of SIGTERM at once, and its app may have work to finish."""
    script = f"""
        (trap 'sleep 0.3; touch {tmp_path}/flushed; exit' TERM
        echo ready; while :; do sleep 0.1; done)
        true
    """
    directory = SidecarDirectory(tmp_path)
    leftovers = Leftovers(directory, EnvoyAdmin(directory.admin_socket), SystemClock(), 30)
    app = await asyncio.create_subprocess_exec(
        "sh", "-c", script, process_group=0, stdout=asyncio.subprocess.PIPE
    )
    assert app.stdout is not None
    await app.stdout.readline()
    leftovers.note_app(app.pid, INSTANCE)
    await leftovers.end()

    assert (tmp_path / "flushed").exists()
    assert await app.wait() == -signal.SIGTERM


def test_an_app_that_nobody_waited_for_is_none(tmp_path: Path) -> None:
    """It ended, and whoever inherited it keeps its number only."""
    leftovers = _leftovers(tmp_path)
    with subprocess.Popen(["sleep", "60"], process_group=0) as app:
        leftovers.note_app(app.pid, INSTANCE)
        app.kill()
        os.waitid(os.P_PID, app.pid, os.WEXITED | os.WNOWAIT)
        with structlog.testing.capture_logs() as logs:
            asyncio.run(leftovers.end())

    assert logs == []


@pytest.mark.parametrize("owner", [INSTANCE, "another instance"])
async def test_what_a_script_left_behind_is_found_by_its_instance(
    tmp_path: Path, owner: str
) -> None:
    """It has the port of the app though the script has ended, whose number may be anybody's."""
    leftovers = _leftovers(tmp_path)
    app = await asyncio.create_subprocess_exec(
        *("sh", "-c", "sleep 60 & read line"),
        env={**os.environ, "CF_INSTANCE_GUID": owner},
        stdin=asyncio.subprocess.PIPE,
        process_group=0,
    )
    leftovers.note_app(app.pid, INSTANCE)
    await app.communicate(b"\n")
    try:
        assert running(app.pid)
        with structlog.testing.capture_logs() as logs:
            await leftovers.end()

        assert bool(running(app.pid)) == (owner != INSTANCE)
        assert [each["event"] for each in logs] == ["app.left_over"] * (owner == INSTANCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.pid, signal.SIGKILL)
