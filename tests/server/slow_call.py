"""A call that is no stream, and is answered when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from tests.xds_client import plaintext_channel


@dataclass(slots=True)
class SlowCall:
    """The one method of a server, and a call of it."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _address: str = ""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[grpc.aio.Server]:
        """Serve it; whoever enters stops the server."""
        server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[bytes, bytes]
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        handlers = grpc.method_handlers_generic_handler("test.Slow", {"Call": handler})
        server.add_generic_rpc_handlers([handlers])
        self._address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        yield server

    @asynccontextmanager
    async def called(self) -> AsyncIterator[asyncio.Future[bytes]]:
        """Call it, and go on once the server has begun to answer."""
        async with plaintext_channel(self._address) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            method = channel.unary_unary("/test.Slow/Call")
            calling = asyncio.ensure_future(method(b""))
            await self._begun.wait()
            yield calling

    async def _answer(self, _request: bytes, _context: object) -> bytes:
        self._begun.set()
        await self.go_on.wait()
        return b"answer"
