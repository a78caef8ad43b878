"""The connections of an asyncio server that ends with them.

The rule of this module: their number is bounded, each is served by a task of its own, and none
outlives the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

CLOSE_SECONDS = 10.0
"""How long a client may take to read the last of what it was sent; then its connection is cut."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection; it is closed when that returns, and cut where it raises OSError."""


class Connections:
    """All that are open."""

    def __init__(self, serve: Serve, *, most: int) -> None:
        """Have each of them served.

        Args:
            serve: serves one.
            most: how many there may be; what comes beyond that is cut at once.
        """
        self._serve = serve
        self._most = most
        self._open: set[asyncio.Task[None]] = set()
        self._has_ended = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection: what ``asyncio.start_server`` calls for each."""
        task = asyncio.current_task()
        if task is None or self._has_ended or len(self._open) >= self._most:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._serve(reader, writer)
            writer.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await writer.wait_closed()
        # A timeout is an OSError too. Python 3.11 logs a connection's task that ends as cancelled.
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)

    async def end(self) -> None:
        """End what is under way, and cut what comes later: a handshake may have begun before."""
        self._has_ended = True
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
