"""How a grpc.aio server is closed: its calls may go on for a while, and then are cut.

The rule of this module: only one stop of a server has a grace period, and that period never runs
out by itself; a stop without a grace period ends it. grpc.aio allows a second stop with a shorter
grace period. But if one grace period ends at the moment at which another stop has finished,
grpc.aio cancels the calls of a destroyed server, which kills the process (grpcio 1.85,
`AioServer.shutdown`).
"""

from __future__ import annotations

import asyncio

import grpc

_UNTIL_CUT = 1e9
"""A grace period that is never over, in seconds."""


class Closing:
    """A server that accepts no new connections, while its calls go on."""

    def __init__(self, server: grpc.aio.Server) -> None:
        """Close the ports of a server; clients get a GOAWAY on open connections."""
        self._server = server
        self._over = asyncio.create_task(server.stop(_UNTIL_CUT))

    async def cut(self, seconds: float) -> None:
        """Cut the calls that have not ended after this many seconds; after that nothing is left."""
        await asyncio.wait([self._over], timeout=seconds)
        await self._server.stop(None)
        await self._over
