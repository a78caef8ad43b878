"""Real sidecars with real Envoys.

The rule of this module: a sidecar is a process of its own, started by the command line as people
start it, and what it logs is read as JSON. It ends with the ``async with`` that began it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.envoy.harness import DEADLINE, Envoy
from tests.installed import C2C
from tests.waiting import ended


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an operator hands to a sidecar."""

    server: str
    token: str = field(repr=False)
    fingerprint: str


@dataclass(slots=True)
class Sidecar:
    """A sidecar that runs, or has ended."""

    directory: Path
    process: asyncio.subprocess.Process
    token: str = field(repr=False)
    lines: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _is_silent: bool = False

    @property
    def envoy(self) -> Envoy:
        """Its Envoy, to look at."""
        return Envoy(self.directory, self.process)

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Return what it logged under this name."""
        parsed = (json.loads(line) for line in self.lines if line.startswith("{"))
        return [each for each in parsed if each["event"] == name]

    async def logged(self, name: str, *, times: int = 1) -> Mapping[str, Any]:
        """Wait until it has logged an event so many times, and return the last."""
        while len(found := self.events(name)) < times:
            assert not self._is_silent, f"the sidecar ended before it logged {name}"
            self._news.clear()
            await self._news.wait()
        return found[-1]

    async def hear(self) -> None:
        """Keep what it logs until it ends."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self._news.set()
        self._is_silent = True
        self._news.set()

    async def hear_output(self) -> None:
        """Keep what its app writes."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.output.append(line.decode().rstrip("\n"))

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    async def stop(self) -> int:
        """Tell it to stop, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@contextlib.asynccontextmanager
async def sidecar(
    ticket: Ticket | None,
    directory: Path,
    *options: str,
    command: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    program: Sequence[str] = (C2C,),
) -> AsyncIterator[Sidecar]:
    """Run ``c2c sidecar`` until the block ends.

    Args:
        ticket: goes by variables, where ``ps`` does not show it.
        directory: its ``--dir``.
        options: more of its options.
        command: the app.
        variables: more of its variables.
        program: what is run in the place of ``c2c``.
    """
    environment = {**os.environ, **(variables or {}), "C2C_SIDECAR_DIR": str(directory)}
    if ticket is not None:
        environment["C2C_SIDECAR_SERVER"] = ticket.server
        environment["C2C_SIDECAR_TOKEN"] = ticket.token
        environment["C2C_SIDECAR_FINGERPRINT"] = ticket.fingerprint
    process = await asyncio.create_subprocess_exec(
        *program,
        "sidecar",
        *("--log-format", "json", "--offline-wait", "0s", "--drain-time", "1s"),
        *options,
        *(("--", *command) if command else ()),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    started = Sidecar(directory, process, token="" if ticket is None else ticket.token)
    reading = [asyncio.create_task(each) for each in (started.hear(), started.hear_output())]
    try:
        yield started
    except BaseException as error:
        error.add_note("\n".join(["the sidecar wrote:", *started.lines[-40:], *started.output]))
        raise
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        await ended(process, "the sidecar, after SIGTERM and SIGINT,")
        await asyncio.gather(*reading)


@contextlib.contextmanager
def limited(limit: int, soft: int) -> Iterator[None]:
    """Start programs meanwhile with a limit (setrlimit(2)) that they may raise."""
    usual = resource.getrlimit(limit)
    resource.setrlimit(limit, (soft, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(limit, usual)


def living(group: int) -> list[int]:
    """Return the processes of a group that run; those only waiting to be reaped do not."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of a process, in parentheses, may be any bytes.
            state, _, members_of = each.read_bytes().rpartition(b")")[2].split()[:3]
            if int(members_of) == group and state != b"Z":
                found.append(int(each.parent.name))
    return found
