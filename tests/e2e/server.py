"""``c2c serve`` as a process of its own, to be killed and started again on the same ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from control_plane.api.v1 import trust_pb2, trust_pb2_grpc
from control_plane.settings import admin_socket
from tests.e2e.site import Site
from tests.envoy.harness import unique_address, until
from tests.installed import C2C
from tests.waiting import ended

START_SECONDS = 60.0
"""What a start may take on a machine that is busy with other tests."""


class Server:
    """A control plane in another process; it is gone when the block ends."""

    def __init__(self, directory: Path) -> None:
        """Use a data directory in this one."""
        self.data = directory / "data"
        self._directory = directory
        self._addresses = _free_addresses("--xds-address", "--enroll-address", "--http-address")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing running."""
        await self.kill()

    async def launch(self) -> None:
        """Start the process, and wait for nothing."""
        arguments = {
            "--data-dir": str(self.data),
            **self._addresses,
            "--log-level": "warning",
        }
        options = [part for option in arguments.items() for part in option]
        self._process = await asyncio.create_subprocess_exec(C2C, "serve", *options)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await self.launch()
        await self.until(self._answers, what="the control plane answers")

    async def kill(self) -> None:
        """Kill it without a word (SIGKILL)."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await ended(self._process, "the control plane, after SIGKILL,")
        self._process = None

    async def until(self, happened: Callable[[], bool], *, what: str) -> None:
        """Wait until something has happened, while it runs."""

        async def probe() -> bool:
            assert self._process is not None
            assert self._process.returncode is None, "the control plane ended by itself"
            return happened()

        await until(probe, what=what, timeout=START_SECONDS)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(admin_socket(self.data)))
            return True
        return False

    @contextlib.asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        """Use it as an operator, until the block ends."""
        async with grpc.aio.insecure_channel(f"unix:{admin_socket(self.data)}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            stub = trust_pb2_grpc.TrustServiceStub(channel)
            answer = await stub.GetTrustBundle(trust_pb2.GetTrustBundleRequest())
            yield Site(channel, self._directory, answer.trust_bundle.encode())


def _free_addresses(*options: str) -> dict[str, str]:
    """Return an address and a port that are free for each; who listens on 0.0.0.0 may have any."""
    host = unique_address(0)
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.create_server((host, 0))) for _ in options]
        ports = [each.getsockname()[1] for each in found]
    return {name: f"{host}:{port}" for name, port in zip(options, ports, strict=True)}
