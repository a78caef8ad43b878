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

from tests.envoy.harness import DEADLINE, Envoy, until
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

        async def probe() -> list[Mapping[str, Any]]:
            found = self.events(name)
            return found if len(found) >= times else []

        return (await until(probe, what=f"the sidecar logs {name}; it logged {self.lines}"))[-1]

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
) -> AsyncIterator[Sidecar]:
    """Run ``c2c sidecar`` until the block ends.

    Args:
        ticket: goes by variables, where ``ps`` does not show it.
        directory: its ``--dir``.
        options: more of its options.
        command: the app.
        variables: more of its variables.
    """
    environment = {**os.environ, **(variables or {}), "C2C_SIDECAR_DIR": str(directory)}
    if ticket is not None:
        environment["C2C_SIDECAR_SERVER"] = ticket.server
        environment["C2C_SIDECAR_TOKEN"] = ticket.token
        environment["C2C_SIDECAR_FINGERPRINT"] = ticket.fingerprint
    process = await asyncio.create_subprocess_exec(
        C2C,
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
    reading = [
        asyncio.create_task(_read(process.stderr, started.lines)),
        asyncio.create_task(_read(process.stdout, started.output)),
    ]
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


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))


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
