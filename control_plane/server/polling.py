"""One polled call being served: a request in, at the most one response out.

The rule of this module: as long as it waits it is a stream of its node like any other, with the
same admission, limits and observers, and ends as any other does. If there is nothing that its
client does not have, it waits for that for a while, since nobody can be answered with nothing: to
many a client an empty response says that all is gone.
"""

from __future__ import annotations

import asyncio

from control_plane.errors import Unavailable
from control_plane.nodes import LiveStream, Variant
from control_plane.server.admission import StreamContext
from control_plane.server.serving import ServedBy
from control_plane.server.wire import encode, parse_sotw
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.polled import Poll
from control_plane.xds.resource import Snapshot


class Polling:
    """The service of one poll.

    Attributes:
        response: the answer, once it was found.
    """

    __slots__ = ("_by", "_context", "_raw", "response")

    def __init__(self, raw: bytes, context: StreamContext, by: ServedBy) -> None:
        """Serve a request of a call."""
        self._raw = raw
        self._context = context
        self._by = by
        self.response = b""

    async def run(self, live: LiveStream) -> None:
        """Serve until the answer is found, or the call was ended."""
        asking = asyncio.create_task(self._ask(live))
        try:
            await live.ended()
        finally:
            asking.cancel()

    async def _ask(self, live: LiveStream) -> None:
        try:
            poll = self._take(live, parse_sotw(self._raw))
            reply = await self._answer(live, poll)
            self._by.nodes.sent(live, reply)
            self.response = encode(reply, Variant.SOTW, self._by.identifier)
            live.end(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this call only
            live.end(error)

    def _take(self, live: LiveStream, request: SotwRequest) -> Poll:
        connected = self._by.meet(live, request, self._context)
        poll = Poll(live.stream, request)
        snapshot = self._by.nodes.sendable(live.node_id) or Snapshot()
        told = poll.receive(snapshot, self._by.clock.monotonic())
        self._by.nodes.told(live, (*connected, *told))
        return poll

    async def _answer(self, live: LiveStream, poll: Poll) -> Reply:
        seconds = self._by.limits.poll_seconds
        until = self._by.clock.monotonic() + seconds
        while (now := self._by.clock.monotonic()) < until:
            snapshot = self._by.nodes.sendable(live.node_id)
            reply = None if snapshot is None else poll.reply(snapshot, now)
            if reply is not None:
                return reply
            await live.woken(until - now)
        raise Unavailable(
            f"nothing within {seconds:g} seconds that the client does not have: ask again"
        )
