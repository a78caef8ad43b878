"""The connections of an asyncio server, which end with the server.

The rule of this module: the number of connections is bounded, each is served by a task of its own,
and none outlives the server. Nor does a server outlive a start that is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

CLOSE_SECONDS = 10.0
"""How long a client may take to read the last of what it was sent; after that its connection is
cut."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection, which is closed when the function returns, and cut if it raises
OSError."""


class Connections:
    """All open connections of a server."""

    def __init__(self, serve: Serve, *, most: int, oldest_gives_way: bool = False) -> None:
        """Have each of them served.

        Args:
            serve: serves one.
            most: how many there may be; what comes beyond that is cut at once.
            oldest_gives_way: whether the one that has been open for longest is cut in its place:
                where each takes a moment, that one waits for something that does not come.
        """
        self._serve = serve
        self._most = most
        self._oldest_gives_way = oldest_gives_way
        self._open: dict[asyncio.Task[None], None] = {}
        self._has_ended = False
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, **options: Any) -> int:  # noqa: ANN401 - asyncio's
        """Serve clients that connect to an address; return the port. ``end`` must always follow.

        Args:
            host: an IP address.
            port: 0 for any that is free.
            options: those of ``asyncio.start_server``.

        Raises:
            OSError: the address cannot be listened on.
        """
        server = await asyncio.start_server(self.accept, host, port, start_serving=False, **options)
        await self._start(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def listen_at(self, path: str, **options: Any) -> None:  # noqa: ANN401 - asyncio's
        """Do the same at a Unix socket."""
        server = await asyncio.start_unix_server(self.accept, path, start_serving=False, **options)
        await self._start(server)

    async def _start(self, server: asyncio.Server) -> None:
        # If asyncio had started the server at once, nobody could close it if this is cancelled.
        self._server = server
        await server.start_serving()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; asyncio calls this for each."""
        task = asyncio.current_task()
        if task is None or self._has_ended or not self._has_room():
            writer.transport.abort()
            return
        self._open[task] = None
        try:
            await self._serve(reader, writer)
            writer.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await writer.wait_closed()
        # A timeout is an OSError too. Python 3.11 logs a connection's task that ends as cancelled.
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.pop(task, None)

    def _has_room(self) -> bool:
        if len(self._open) < self._most:
            return True
        if self._oldest_gives_way:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        return self._oldest_gives_way

    async def end(self) -> None:
        """Stop listening, end the open connections, and cut those whose handshake is under way."""
        self._has_ended = True
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
