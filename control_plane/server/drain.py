"""How a server that stops lets go of its clients.

The rules of this module:

- Load balancers are told first; then the ports close. A client that reconnects finds another
  server, or none, and is not let in here once more. Clients learn this on open connections by a
  GOAWAY, which ends no stream (RFC 9113, section 6.8).
- Streams end in slices over a part of the time, so that a fleet does not come back as one crowd.
- The time is a bound: streams that have not ended by then are cut, counted and logged. A process
  that is busy with ending streams makes no pauses. Thousands of streams are cut a little earlier,
  because cutting them takes time.
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
"""The largest number of slices that the streams are divided into."""

SPREAD = 0.5
"""The largest part of the time over which streams are ended; the rest is for slow clients."""

STREAMS_PER_SECOND = 100.0
"""If there are too few streams to fill that part of the time, they end at this rate. Each stream
that comes back costs the next server a handshake of 2-3 ms; so a few of them are no crowd, and need
no waiting."""

CUTS_PER_SECOND, CUTTING = 2000.0, 0.25
"""How many calls are cut in a second, and the largest part of the time that is kept for that. The
time is computed from the number of streams at the start: a fleet has about as many other calls, and
most of its streams have ended by then."""

LAST_CALLS_SECONDS = 1.0
"""How long other calls may go on after the streams are over. Calls that do go on wait for news
(reports of sidecars, health watches), and there will be none."""


class Drain:
    """Ends the discovery streams of one server."""

    def __init__(self, discovery: DiscoveryService, clock: Clock) -> None:
        """Start with nothing ending."""
        self._discovery = discovery
        self._clock = clock
        self._log = structlog.get_logger(__name__)

    async def run(
        self, public: Sequence[grpc.aio.Server], private: Sequence[grpc.aio.Server], seconds: float
    ) -> None:
        """Stop servers; after that, nothing of them is left.

        Args:
            public: the servers that clients connect to; the discovery servers are among them.
            private: the servers for operators, who can watch until the other servers have stopped.
            seconds: how long all of this may take.
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
        """End the streams over some seconds; those not ended by ``cut_at`` are cut then."""
        streams = self._discovery.open_streams()
        size = max(1, math.ceil(len(streams) / SLICES))
        pause = seconds / max(1, math.ceil(len(streams) / size))
        began = self._clock.monotonic()
        for number, first in enumerate(range(0, len(streams), size)):
            # Ending streams keeps the process busy, so a pause takes longer than it should.
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
