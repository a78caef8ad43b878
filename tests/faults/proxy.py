"""A TCP proxy between xDS clients and the control plane that a test can have misbehave.

The rule of this module: it knows nothing of TLS or gRPC, only octets and connections, as a network
does. A fault holds for every connection, those that are open and those to come, until the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from control_plane.settings import SocketAddress

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # linger for 0 seconds: RST instead of FIN (socket(7))

Fault = Callable[["Pipe", bytes], Awaitable[None]]
"""What happens to octets on their way; raises ConnectionError to break the connection."""


@dataclass(eq=False, slots=True)
class Pipe:
    """One direction of one connection.

    Attributes:
        is_down: whether it leads from the control plane to the client.
        passed: how many octets went through.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_down: bool
    passed: int = 0

    async def send(self, data: bytes) -> None:
        """Let octets through."""
        self.writer.write(data)
        await self.writer.drain()
        self.passed += len(data)


async def none(pipe: Pipe, data: bytes) -> None:
    """Let everything through."""
    await pipe.send(data)


async def swallow(_pipe: Pipe, _data: bytes) -> None:
    """Let nothing through, and keep the connection open: half open, as after a cable was pulled."""


def delay(seconds: float) -> Fault:
    """Let everything through, this much later."""

    async def fault(pipe: Pipe, data: bytes) -> None:
        await asyncio.sleep(seconds)
        await pipe.send(data)

    return fault


async def trickle(pipe: Pipe, data: bytes) -> None:
    """Let everything through in segments of one octet."""
    for at in range(len(data)):
        await pipe.send(data[at : at + 1])
        await asyncio.sleep(0)


def reset_after(octets: int) -> Fault:
    """Break each connection after so many octets to the client: in the middle of a message."""

    async def fault(pipe: Pipe, data: bytes) -> None:
        room = octets - pipe.passed if pipe.is_down else len(data)
        await pipe.send(data[: max(0, room)])
        if room < len(data):
            raise ConnectionResetError

    return fault


@dataclass(slots=True)
class Proxy:
    """A proxy that listens.

    Attributes:
        source: the address from which it connects; None for any.
        fault: what happens to octets that come from now on.
        is_refusing: whether new connections are broken at once.
        accepted: how many connections there were.
        broken: how many of them a fault broke.
    """

    upstream: SocketAddress
    port: int = 0
    source: str | None = None
    fault: Fault = none
    is_refusing: bool = False
    accepted: int = 0
    broken: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> SocketAddress:
        """Where it listens."""
        return SocketAddress("127.0.0.1", self.port)

    @property
    def open_connections(self) -> int:
        """How many connections of clients are open."""
        return len(self._tasks)

    def cut(self) -> None:
        """Close every connection as the other end would that ends in good order."""
        for writer in tuple(self._open):
            writer.close()

    def reset(self) -> None:
        """Break every connection as a machine does that lost power and came back."""
        for writer in tuple(self._open):
            _break(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        try:
            if not self.is_refusing:
                await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            _break(writer)
            self._tasks.discard(task)

    async def close(self) -> None:
        """Break what is left."""
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(
            self.upstream.host,
            self.upstream.port,
            local_addr=(self.source, 0) if self.source else None,
        )
        self._open |= {writer, up_writer}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(Pipe(reader, up_writer, is_down=False)))
                both.create_task(self._pass(Pipe(up_reader, writer, is_down=True)))
        except* OSError:
            pass
        finally:
            self._open -= {writer, up_writer}
            _break(up_writer)

    async def _pass(self, pipe: Pipe) -> None:
        while data := await pipe.reader.read(_CHUNK):
            try:
                await self.fault(pipe, data)
            except ConnectionResetError:
                self.broken += 1
                raise
        # One end is done: so is the other, since neither gRPC nor Envoy half-closes TCP.
        raise ConnectionAbortedError


def _break(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxy(upstream: SocketAddress, source: str | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy to an address until the block ends."""
    made = Proxy(upstream, source=source)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()
