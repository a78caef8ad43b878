"""``c2c demo`` from outside: it can be ended at any time, and what it says to try works."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane.demo.places import APP_PORT
from tests.envoy.harness import DEADLINE, unique_address, until
from tests.hangup import hangup
from tests.waiting import ended, output

PATIENCE = 3 * DEADLINE
"""A whole story takes ten seconds where nobody else works."""

TRY = "It is still running; Ctrl-C ends it. In another terminal, try:"

DEMO = """
import sys
from control_plane.cli.main import main
from control_plane.demo import places
addresses = zip(sys.argv[1:4], sys.argv[4:7])
moved = [places.Place(each.app, each.label, *next(addresses)) for each in places.EVERYBODY]
places.CALLER, places.EVERYBODY, places.SERVERS = moved[0], tuple(moved), tuple(moved[1:])
from control_plane.demo import story
story._LOAD_SECONDS, story._READY_SECONDS = 0.1, float(sys.argv[7])
sys.argv = ["c2c", "demo", "--keep"]
main()
"""
"""The demo as it is, at places that no other test has, with less to wait for."""


@dataclass(slots=True)
class Demo:
    """A demo that runs, or has ended."""

    process: Process
    addresses: Sequence[str]
    lines: list[str] = field(default_factory=list)

    async def said(self, text: str) -> None:
        """Wait until it has said this."""

        async def probe() -> bool:
            return any(text in each for each in self.lines)

        await until(probe, what=f"the demo says {text}; it said {self.lines}", timeout=PATIENCE)

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def living(self) -> list[str]:
        """Return the command lines of all that has to do with it and runs."""
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = each.read_bytes().decode(errors="replace").replace("\0", " ")
                if any(
                    f"{address} " in words or f"{address}:" in words for address in self.addresses
                ):
                    found.append(words)
        return found


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory whose path leaves room for the name of a socket in it."""
    with tempfile.TemporaryDirectory(prefix="c2c-", dir="/tmp") as name:
        yield Path(name)


def _free() -> list[str]:
    """Return addresses for three instances, then for their apps."""
    return [unique_address() for _ in range(6)]


@asynccontextmanager
async def _demo(
    directory: Path,
    *,
    addresses: Sequence[str] = (),
    ready_seconds: float = PATIENCE,
    started_in: Path | None = None,
) -> AsyncIterator[Demo]:
    """Run a demo that is to be kept running, with all of its files in this directory."""
    addresses = addresses or _free()
    environment = {**os.environ, "TMPDIR": str(directory), "PATH": "/usr/bin:/bin"}
    environment["GRPC_VERBOSITY"] = "NONE"  # as the entry point ``c2c`` has it
    command = (sys.executable, "-P", "-c", DEMO, *addresses, str(ready_seconds))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=started_in,
    )
    demo = Demo(process, addresses)
    reading = asyncio.create_task(_read(process, demo.lines))
    try:
        yield demo
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await ended(process, "the demo")
        await reading


async def _read(process: Process, lines: list[str]) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        lines.append(line.decode().rstrip("\n"))


async def _printed(script: str, home: Path) -> str:
    """Run a script in a shell that knows nothing of this installation; return what it printed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-ec", script), stdout=PIPE, stderr=PIPE, env=environment
    )
    out, err = await output(shell, "the script")
    assert shell.returncode == 0, (out, err)
    return out.decode()


async def test_what_it_says_to_try_works_and_sigterm_ends_it(home: Path) -> None:
    """Pasted into a shell that knows nothing of .venv; and then nothing is left, files included."""
    async with _demo(home) as demo:
        await demo.said("http://envoy/certs")
        printed = await _printed("\n".join(demo.lines[demo.lines.index(TRY) + 1 :]), home)
        assert "hello from app-b/0, process" in printed
        assert "\nc2c.v1.RouteService\n" in printed
        assert len(demo.living()) >= 7
        demo.process.send_signal(signal.SIGTERM)

        assert await demo.ended() == 0
        assert demo.living() == []
    assert list(home.iterdir()) == []


async def test_the_directory_where_it_is_started_is_no_part_of_it(
    home: Path, tmp_path: Path
) -> None:
    """A file there may be called as a module that the sidecars import."""
    (tmp_path / "dns.py").write_text("raise SystemExit")
    async with _demo(home, started_in=tmp_path) as demo:
        await demo.said("enrolled with join tokens")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_a_signal_while_it_starts_ends_all_of_it(home: Path, number: signal.Signals) -> None:
    """Ctrl-C, or a terminal that is closed; whoever asks twice leaves nothing behind either."""
    with hangup(signal.SIG_DFL):
        async with _demo(home) as demo:
            await demo.said("1. A control plane")
            demo.process.send_signal(number)
            demo.process.send_signal(number)

            assert await demo.ended() == 128 + number
            assert demo.living() == []
    assert len([each for each in demo.lines if each]) == 1
    assert list(home.iterdir()) == []


async def test_a_story_that_failed_is_not_kept_without_its_instances(home: Path) -> None:
    """Nothing is said to be running that is not, and the code says that it failed."""
    async with _demo(home, ready_seconds=0.001) as demo:
        assert await demo.ended() == 1
        assert demo.living() == []
    assert demo.lines[-1] == "It is not kept running: not all of its instances are up."
    assert not any("try:" in each for each in demo.lines)


async def test_a_port_that_is_taken_is_said_before_anything_starts(home: Path) -> None:
    """It is another demo most often, and that is what is asked."""
    addresses = _free()
    with socket.create_server((addresses[4], APP_PORT)):
        async with _demo(home, addresses=addresses) as demo:
            assert await demo.ended() == 1
    (line,) = demo.lines
    assert line == (
        f"The demo cannot listen on {addresses[4]}:{APP_PORT}: Address already in use: is another "
        "demo running? End it first ('ss -lntp' shows what listens)"
    )
