"""DNS over TCP (RFC 7766).

The rules of this module:

- Queries may come one behind the other without waiting, and answers leave as soon as they are
  there, in any order (sections 6.2.1.1 and 7).
- A connection on which no whole query comes for a while is closed, once it has its answers (section
  6.2.3), and so is one whose client does not read. Neither holds up anybody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from control_plane.sidecar.dns.answer import Forward, Transport
from control_plane.sidecar.dns.message import framed
from control_plane.sidecar.dns.resolver import Resolver


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """How much the clients of one server may hold.

    Attributes:
        connections: how many may be open; the next is closed at once.
        forwarded: queries of one connection that may be with upstream resolvers; the next is not
            read before one of them is answered.
        idle: seconds for a whole query to come.
        sending: seconds for a client to take its answers.
    """

    connections: int = 128
    forwarded: int = 32
    idle: float = 10.0
    sending: float = 5.0


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    resolver: Resolver,
    limits: TcpLimits,
) -> None:
    """Answer the queries of one connection until its client has no more, and close it."""
    try:
        await _Connection(reader, writer, resolver, limits).serve()
        writer.close()
        async with asyncio.timeout(limits.sending):
            await writer.wait_closed()
    except* OSError:  # TimeoutError, too
        pass
    finally:
        writer.transport.abort()


class _Connection:
    """One connection, and the queries of it that are with upstream resolvers."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        resolver: Resolver,
        limits: TcpLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._resolver = resolver
        self._limits = limits
        self._places = asyncio.Semaphore(limits.forwarded)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as forwarding:
            while (wire := await self._next()) is not None:
                answer = self._resolver.respond(wire, Transport.TCP)
                if isinstance(answer, Forward):
                    await self._places.acquire()
                    forwarding.create_task(self._forward(wire, answer))
                elif answer is not None:
                    await self._send(answer)

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.idle):
                length = await self._reader.readexactly(2)
                return await self._reader.readexactly(int.from_bytes(length))
        except (TimeoutError, EOFError):
            return None

    async def _forward(self, wire: bytes, forward: Forward) -> None:
        try:
            await self._send(await self._resolver.forward(wire, forward, Transport.TCP))
        finally:
            self._places.release()

    async def _send(self, answer: bytes) -> None:
        self._writer.write(framed(answer))
        async with asyncio.timeout(self._limits.sending):
            await self._writer.drain()
