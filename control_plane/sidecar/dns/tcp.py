"""DNS over TCP (RFC 7766).

The rules of this module:

- A client may send further queries without waiting for answers, and answers leave as soon as they
  are ready, in any order (sections 6.2.1.1 and 7).
- A connection on which no whole query arrives for a while is closed once its answers are sent
  (section 6.2.3), and so is a connection whose client does not read. Neither holds up any other
  client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from control_plane.sidecar.dns.answer import Forward, Transport
from control_plane.sidecar.dns.message import framed
from control_plane.sidecar.dns.resolver import Resolver


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """How many resources the TCP clients of one server may use.

    Attributes:
        connections: how many connections may be open; a further one is closed at once.
        forwarded: how many queries of one connection may wait for upstream resolvers; the next one
            is not read before one of them is answered.
        idle: how many seconds a whole query may take to arrive.
        sending: how many seconds a client may take to accept its answers.
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
    except* OSError:  # this includes TimeoutError
        pass
    finally:
        writer.transport.abort()


class _Connection:
    """One connection, and its queries that wait for upstream resolvers."""

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
