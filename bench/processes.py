"""The processes of a measurement: the control plane, its sidecars, and the resources that they use.

The rule of this module: everything that is measured is a process of its own, started as users start
it. Its CPU time and memory are what the kernel reports.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from control_plane.api.v1 import instance_pb2, instance_pb2_grpc
from control_plane.settings import SocketAddress, admin_socket

HERE = Path(__file__).parent
PATIENCE = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_seconds: float
    rss_kib: int


def usage(pid: int) -> Usage:
    """Return what the kernel reports of a process, including all its threads and children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    # The CPU time of the process itself, and of its children that have ended.
    cpu_seconds, rss_kib = sum(map(int, fields[11:15])) / _TICKS, int(rss.split()[1])
    for child in children(pid):
        used = usage(child)
        cpu_seconds, rss_kib = cpu_seconds + used.cpu_seconds, rss_kib + used.rss_kib
    return Usage(cpu_seconds, rss_kib)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that have not ended."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in threads for child in each.read_text().split()]


def free_ports(number: int) -> list[int]:
    """Return ports that are free."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True, slots=True)
class Server:
    """A running control plane, and an operator's channel to it."""

    process: asyncio.subprocess.Process
    xds: SocketAddress
    http: SocketAddress
    operator: grpc.aio.Channel

    def usage(self) -> Usage:
        """Return what the control plane has used so far."""
        return usage(self.process.pid)


@asynccontextmanager
async def control_plane(
    data_dir: Path, *options: str, at: SocketAddress | None = None
) -> AsyncIterator[Server]:
    """Run ``c2c serve`` until the block ends, for xDS at a free port if none is given."""
    free, enroll, http = (SocketAddress("127.0.0.1", port) for port in free_ports(3))
    xds = at or free
    with (data_dir.parent / "control-plane.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("c2c")), "serve", "--data-dir", str(data_dir)),
            *("--xds-address", str(xds), "--enroll-address", str(enroll)),
            *("--http-address", str(http), "--drain-time", "100ms", *options),
            stdout=log,
            stderr=log,
        )
    try:
        async with grpc.aio.insecure_channel(f"unix:{admin_socket(data_dir)}") as channel:
            await _answers(channel)
            yield Server(process, xds, http, channel)
    finally:
        await end(process)


async def _answers(channel: grpc.aio.Channel) -> None:
    stub = instance_pb2_grpc.InstanceServiceStub(channel)
    async with asyncio.timeout(30):
        while True:
            with suppress(grpc.aio.AioRpcError):
                await stub.ListInstances(instance_pb2.ListInstancesRequest(app="app-0"))
                return
            await asyncio.sleep(0.05)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, kill it after some seconds, and wait until it is gone."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Talker:
    """A process that takes commands and answers, both by lines of text."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def tell(self, *words: object) -> None:
        """Send a line to the process."""
        self.writer.write((" ".join(map(str, words)) + "\n").encode())

    async def hear(self, word: str) -> list[str]:
        """Return what follows this word, as soon as the process prints it."""
        async with asyncio.timeout(PATIENCE):
            while line := await self.reader.readline():
                said, *rest = line.decode().split()
                if said == word:
                    return rest
        raise RuntimeError(f"process {self.process.pid} ended before it said {word!r}")


@asynccontextmanager
async def talker(script: str, *arguments: object) -> AsyncIterator[Talker]:
    """Run a script of this directory until the block ends."""
    command: Sequence[str] = [sys.executable, str(HERE / script), *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes to the process")
    try:
        yield Talker(process, process.stdout, process.stdin)
    finally:
        await end(process)
