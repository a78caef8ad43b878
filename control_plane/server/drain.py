"""How a server that stops lets go of those who are connected.

The rules of this module:

- Who balances load is told first, then the ports close: who comes again finds another server, or
  none, and is not let in here once more. A GOAWAY says so on connections that are open, and ends no
  stream (RFC 9113, section 6.8).
- Streams end in slices over a part of the time, so that a fleet does not come back as one crowd.
- The time is a bound: what has not ended by then is cut, counted and logged. A process that is busy
  with those that end makes no pauses, and thousands are cut a little earlier, as that takes time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import grpc
import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.server.closing import Closing
from control_plane.server.discovery.services import DiscoveryService

SLICES = 20
"""Into how many parts the streams are divided at the most."""

SPREAD = 0.5
"""The part of the time over which streams end at the most; the rest is for those that are slow."""

STREAMS_PER_SECOND = 100.0
"""Fewer streams than fill that time end at this rate. Each that comes back costs the next server a
handshake of 2-3 ms, so a few of them are no crowd, and nobody waits for them."""

CUTS_PER_SECOND, CUTTING = 2000.0, 0.25
"""How many calls are cut in a second, and the part of the time that is kept for that at the most.
It is reckoned by the streams that there were: a fleet has about as many other calls, and of its
streams most have ended by then."""

LAST_CALLS_SECONDS = 1.0
"""How long other calls may go on once the streams are over: those that do wait for news (reports of
sidecars, watchers of health), of which there will be none."""


class Drain:
    """The end of the discovery streams of one server."""

    def __init__(self, discovery: DiscoveryService, clock: Clock) -> None:
        """Have nothing end yet."""
        self._discovery = discovery
        self._clock = clock
        self._log = structlog.get_logger(__name__)

    async def run(
        self, public: Sequence[grpc.aio.Server], private: Sequence[grpc.aio.Server], seconds: float
    ) -> None:
        """Stop servers; after that nothing of them is left.

        Args:
            public: the servers to which clients connect; those of discovery are among them.
            private: the servers for operators, who may look on until the others have stopped.
            seconds: how long all of it may take.
        """
        began = self._clock.monotonic()
        self._discovery.turn_away()
        streams = len(self._discovery.open_streams())
        closing = [Closing(server) for server in public]
        end = began + seconds
        cut_at = end - min(seconds * CUTTING, streams / CUTS_PER_SECOND)
        await self._end_streams(min(seconds * SPREAD, streams / STREAMS_PER_SECOND), cut_at)
        await self._discovery.all_gone(self._left(cut_at))
        forced = self._discovery.count_forced()
        level = self._log.warning if forced else self._log.info
        took = self._clock.monotonic() - began
        level(log_events.STREAMS_DRAINED, streams=streams, forced=forced, seconds=round(took, 3))
        await self._cut(closing, cut_at)
        await self._cut([Closing(server) for server in private], end)

    async def _end_streams(self, seconds: float, cut_at: float) -> None:
        """End them over some seconds; those whose turn has not come at a moment are cut then."""
        streams = self._discovery.open_streams()
        size = max(1, math.ceil(len(streams) / SLICES))
        pause = seconds / max(1, math.ceil(len(streams) / size))
        began = self._clock.monotonic()
        for number, first in enumerate(range(0, len(streams), size)):
            # What ends keeps the process busy, and a pause takes longer than it should have.
            left = self._left(began + number * pause)
            await (self._clock.sleep(left) if left else asyncio.sleep(0))
            if number and not self._left(cut_at):
                return
            for live in streams[first : first + size]:
                self._discovery.end(live)

    async def _cut(self, closing: Sequence[Closing], at: float) -> None:
        last = min(self._left(at), LAST_CALLS_SECONDS)
        await asyncio.gather(*(each.cut(last) for each in closing))

    def _left(self, until: float) -> float:
        return max(0.0, until - self._clock.monotonic())
