"""Servers on Unix sockets, and the real grpcurl to call them with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from control_plane.server.status import StatusInterceptor
from tests.installed import GRPCURL
from tests.waiting import output


@asynccontextmanager
async def serving(directory: Path, *add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[Path]:
    """Serve what these functions add to a server, as `c2c serve` does; yield its socket."""
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    for each in add:
        each(server)
    socket = directory / "admin.sock"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield socket
    finally:
        await server.stop(None)


@asynccontextmanager
async def channel_to(socket: Path) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to a server's socket."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        yield channel


@dataclass(frozen=True, slots=True)
class Answer:
    """What grpcurl printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever the message is
        """Return the message that was printed."""
        assert self.code == 0, self.err

        return json.loads(self.out)


async def grpcurl(socket: Path, *words: str, request: Mapping[str, Any] | None = None) -> Answer:
    """Run the real grpcurl against a socket, with words such as ``list`` or a method's name."""
    data = [] if request is None else ["-d", json.dumps(request)]
    process = await asyncio.create_subprocess_exec(
        GRPCURL,
        "-plaintext",
        "-unix",
        "-max-time",
        "20",
        *data,
        str(socket),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await output(process, "grpcurl")
    return Answer(process.returncode or 0, out.decode(), err.decode())
