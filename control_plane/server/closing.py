"""How a grpc.aio server is closed: it lets calls end for as long as they may, then cuts them.

The rule of this module: only one stop of a server has a grace period, which never runs out by
itself; a stop without any ends it. grpc.aio allows a second stop with less grace, but if the grace
of one ends at the moment at which another has finished, it cancels the calls of a server that is
destroyed, and the process with it (grpcio 1.85, `AioServer.shutdown`).
"""

from __future__ import annotations

import asyncio

import grpc

_UNTIL_CUT = 1e9
"""Seconds that are never over."""


class Closing:
    """A server that lets nobody in any more, while calls go on."""

    def __init__(self, server: grpc.aio.Server) -> None:
        """Close the ports of a server; connections that are open get a GOAWAY."""
        self._server = server
        self._over = asyncio.create_task(server.stop(_UNTIL_CUT))

    async def cut(self, seconds: float) -> None:
        """Cut the calls that have not ended in some seconds; after that nothing is left."""
        await asyncio.wait([self._over], timeout=seconds)
        await self._server.stop(None)
        await self._over
