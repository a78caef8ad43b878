"""One polled request being served: it gets at most one response, and is over.

The rule of this module: while a polled request waits, it is a stream of its node like any other. It
has the same admission, limits and observers, and it ends as any other stream does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from control_plane.nodes import LiveStream
from control_plane.server.access.admission import PeerContext
from control_plane.server.discovery.serving import ServedBy
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.polled import Poll
from control_plane.xds.snapshot import Snapshot


class Polling:
    """Serves one polled request.

    Attributes:
        response: the response as bytes; None as long as there is nothing that the client does not
            have.
    """

    __slots__ = ("_by", "_context", "_otherwise", "_read", "_seconds", "_write", "response")

    def __init__(
        self,
        read: Callable[[], SotwRequest],
        write: Callable[[Reply], bytes],
        context: PeerContext,
        by: ServedBy,
        *,
        seconds: float = 0.0,
        otherwise: Exception | None = None,
    ) -> None:
        """Serve a request.

        Args:
            read: returns the request, or raises PeerProtocolError.
            write: returns the bytes of a response.
            context: tells who makes the request.
            by: what all streams of the server share.
            seconds: how long the request may wait for a response.
            otherwise: the error with which the request ends if there is no response by then; None
                if that is no error.
        """
        self._read = read
        self._write = write
        self._context = context
        self._by = by
        self._seconds = seconds
        self._otherwise = otherwise
        self.response: bytes | None = None

    async def run(self, live: LiveStream) -> None:
        """Serve until there is a response, the time for one is over, or the stream was ended."""
        asking = asyncio.create_task(self._ask(live))
        try:
            await live.ended()
        finally:
            asking.cancel()

    async def _ask(self, live: LiveStream) -> None:
        try:
            reply = await self._answer(live, self._take(live, self._read()))
            if reply is None:
                live.end(self._otherwise)
                return
            self.response = self._write(reply)
            self._by.nodes.sent(live, reply)
            live.end(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this stream only
            live.end(error)

    def _take(self, live: LiveStream, request: SotwRequest) -> Poll:
        connected = self._by.meet(live, request, self._context)
        poll = Poll(live.stream, request)
        snapshot = self._by.nodes.sendable(live.node_id) or Snapshot()
        told = poll.receive(snapshot, self._by.clock.monotonic())
        self._by.nodes.told(live, (*connected, *told))
        return poll

    async def _answer(self, live: LiveStream, poll: Poll) -> Reply | None:
        clock, nodes = self._by.clock, self._by.nodes
        until = clock.monotonic() + self._seconds
        while True:
            now, snapshot = clock.monotonic(), nodes.sendable(live.node_id)
            reply = None if snapshot is None else poll.reply(snapshot, now)
            if reply is not None or now >= until:
                return reply
            await live.woken(until - now)
