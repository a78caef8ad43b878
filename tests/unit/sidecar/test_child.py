"""How a process ends that the sidecar started."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from control_plane.errors import ConfigurationError
from control_plane.sidecar.processes.child import Child, check_program
from tests.envoy.harness import until
from tests.sidecar.process import living


async def test_a_group_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the second time its number may be that of a group of somebody else."""
    child = await Child.start(["sleep", "60"], os.environ)
    code = await child.stop(60, asyncio.Event())
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda _group, number: sent.append(number))

    assert code == 128 + signal.SIGTERM
    assert await child.stop(60, asyncio.Event()) == code
    assert sent == []


async def test_what_a_process_started_does_not_outlive_it() -> None:
    """Also where it ends by itself, and leaves something that does not listen to SIGTERM."""
    child = await Child.start(("sh", "-c", "trap '' TERM; sleep 60 & exit 7"), os.environ)
    assert await child.ended() == 7
    assert living(child.pid)

    assert await child.stop(60, asyncio.Event()) == 7

    async def is_gone() -> bool:
        return not living(child.pid)

    await until(is_gone, what="nothing of it is left")


def wait_unheard(child: Child) -> None:
    """Wait until a process has ended, while asyncio has no turn to be told of that."""
    with suppress(ChildProcessError):  # a thread of asyncio was faster
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


async def test_a_signal_takes_away_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends while a signal is passed on to it has ended with the code of its own."""
    looked: list[subprocess.Popen[bytes]] = []

    def poll(process: subprocess.Popen[bytes]) -> None:
        looked.append(process)

    child = await Child.start(("sh", "-c", "exit 7"), os.environ)
    wait_unheard(child)
    monkeypatch.setattr(subprocess.Popen, "poll", poll)
    child.send(signal.SIGHUP)

    assert looked == []
    assert await child.ended() == 7


async def test_a_hurry_ends_the_time_that_a_process_has() -> None:
    """Before that it has as much as was said."""
    stubborn = "trap '' TERM; echo ready; while :; do sleep 1; done"
    child = await Child.start(("sh", "-c", stubborn), os.environ, is_read=True)
    await child.output.readline()
    hurry = asyncio.Event()
    stopping = asyncio.create_task(child.stop(60, hurry))
    await asyncio.wait([stopping], timeout=0.2)
    assert not child.has_ended
    hurry.set()
    async with asyncio.timeout(10):
        assert await stopping == 128 + signal.SIGKILL

    child.send(signal.SIGHUP)  # which nobody gets


_ENDS_AS_ENVOY = """
import os, signal, sys
def told(number, frame):
    signal.signal(number, signal.SIG_DFL)
    os.write(1, b"told\\n")
    os.read(int(sys.argv[1]), 1)
    os._exit(0)
signal.signal(signal.SIGTERM, told)
os.write(1, b"ready\\n")  # print may not be called while it is being called
while True:
    signal.pause()
"""


async def test_who_ends_already_is_not_told_again() -> None:
    """Envoy gives up its signals before it ends, so that a second SIGTERM would cut it off."""
    may_end, its_end = os.pipe()
    command = (sys.executable, "-c", _ENDS_AS_ENVOY, str(may_end))
    child = await Child.start(command, os.environ, is_read=True, inherited=(may_end,))
    os.close(may_end)
    assert await child.output.readline() == b"ready\n"
    given_up = asyncio.create_task(child.stop(60, asyncio.Event()))
    assert await child.output.readline() == b"told\n"
    given_up.cancel()
    await asyncio.wait([given_up])

    stopping = asyncio.create_task(child.stop(60, asyncio.Event()))
    await asyncio.sleep(0)
    os.close(its_end)

    async with asyncio.timeout(10):
        assert await stopping == 0


async def _script(directory: Path, trap: str) -> Child:
    """Return a script without exec, whose shell SIGTERM ends at once, and not what it started."""
    ready = directory / "ready"
    script = f"(trap '{trap}' TERM; touch {ready}; while :; do sleep 0.1; done); true"
    child = await Child.start(("sh", "-c", script), os.environ)

    async def is_ready() -> bool:
        return ready.exists()

    await until(is_ready, what="what the script started listens")
    return child


async def test_an_app_that_a_script_started_has_the_time_to_end(tmp_path: Path) -> None:
    """The script ends of the SIGTERM that the whole group gets; its app may have work to finish."""
    child = await _script(tmp_path, f"sleep 0.3; touch {tmp_path}/flushed; exit")
    async with asyncio.timeout(10):
        assert await child.stop(60, asyncio.Event()) == 128 + signal.SIGTERM

    assert (tmp_path / "flushed").exists()


@pytest.mark.parametrize(("seconds", "is_hurried"), [(0.3, False), (60, True)])
async def test_the_time_of_what_a_script_started_ends_too(
    tmp_path: Path, seconds: float, *, is_hurried: bool
) -> None:
    """It is the same time, and a hurry ends it likewise."""
    child = await _script(tmp_path, "")
    hurry = asyncio.Event()
    async with asyncio.timeout(10):
        stopping = asyncio.create_task(child.stop(seconds, hurry))
        await child.ended()
        assert living(child.pid)
        if is_hurried:
            hurry.set()
        assert await stopping == 128 + signal.SIGTERM

    async def is_gone() -> bool:
        return not living(child.pid)

    await until(is_gone, what="nothing of it is left")


ON_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
output = b""
try:
    while piece := os.read(terminal, 4096):
        output += piece
except OSError:
    pass
sys.stdout.buffer.write(output)
"""

READS_ITS_INPUT = """
import asyncio, os, sys
from control_plane.sidecar.processes.child import Child
reads = "import sys; print('read', repr(sys.stdin.read()))"
async def main():
    child = await Child.start([sys.executable, "-c", reads], os.environ)
    try:
        async with asyncio.timeout(10):
            print("ended", await child.ended())
    finally:
        await child.stop(0, asyncio.Event())
asyncio.run(main())
"""


def test_an_app_that_reads_its_terminal_is_not_stopped_by_it() -> None:
    """Only the foreground may read it, which is the sidecar: Ctrl-C is for that alone."""
    ran = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, READS_ITS_INPUT],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert ran.stdout.split() == ["read", "''", "ended", "0"]


async def test_what_is_read_has_no_input() -> None:
    """Envoy reads none, and what is written to the sidecar is for the app."""
    ours = os.dup(0)
    theirs, _ = pipe = os.pipe()
    os.dup2(theirs, 0)
    try:
        child = await Child.start(("readlink", "/proc/self/fd/0"), os.environ, is_read=True)
    finally:
        os.dup2(ours, 0)
        for each in (ours, *pipe):
            os.close(each)

    assert await child.output.read() == b"/dev/null\n"
    assert await child.ended() == 0


async def test_all_that_a_process_writes_is_read() -> None:
    """Envoy logs to standard error."""
    child = await Child.start(("sh", "-c", "echo a; echo b >&2"), os.environ, is_read=True)

    assert await child.output.read() == b"a\nb\n"
    assert await child.ended() == 0


async def test_a_process_has_the_variables_that_it_is_given() -> None:
    """The sidecar's own may have the join token in them."""
    env = shutil.which("env") or ""
    child = await Child.start((env,), {"A": "1"}, is_read=True)

    assert await child.output.read() == b"A=1\n"
    assert await child.ended() == 0


async def test_the_output_of_others_goes_where_ours_does() -> None:
    """An app writes to the terminal of the sidecar, and nobody reads along."""
    child = await Child.start(("true",), os.environ)
    with pytest.raises(LookupError, match="is not read"):
        _ = child.output

    assert await child.ended() == 0


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """Whether it is not there, or is none, is known before anything is started."""
    text = tmp_path / "text"
    text.touch()
    check_program("sh")
    for program, why in ((str(text), "Permission denied"), ("no-such", "No such file")):
        with pytest.raises(ConfigurationError, match=f"{program}.* cannot be run: {why}"):
            check_program(program)
