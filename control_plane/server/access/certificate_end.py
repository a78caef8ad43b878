"""Streams end with the certificate by which their client was let in.

The rule of this module: no stream stays open for longer than its client could open one. A stream
ends a moment before its certificate expires: by then the client has another certificate, or is told
why it is not let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from control_plane.clock import Clock
from control_plane.errors import Unavailable
from control_plane.nodes import Credential, LiveStream, StreamObserver

MARGIN_SECONDS = 1.0
"""How long before its certificate expires a stream is ended."""

CERTIFICATE_ENDS = "the client certificate ends"


def seconds_left(shown: Credential, clock: Clock) -> float:
    """Return how long a stream that was opened with a certificate may stay open."""
    return max(0.0, (shown.not_after - clock.now()).total_seconds() - MARGIN_SECONDS)


@asynccontextmanager
async def while_valid(shown: Credential | None, clock: Clock) -> AsyncIterator[None]:
    """End a block a moment before the client's certificate expires, if the client showed one.

    Raises:
        Unavailable: the certificate is about to expire.
    """
    until = asyncio.timeout(None if shown is None else seconds_left(shown, clock))
    try:
        async with until:
            yield
    except TimeoutError:
        if until.expired():
            raise Unavailable(f"{CERTIFICATE_ENDS}: come back") from None
        raise


class CertificateEnds(StreamObserver):
    """Observes streams, and ends each of them a moment before its client's certificate expires.

    A stream for which an end is set never gets a later one.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with no stream."""
        self._clock = clock
        self._timers: dict[LiveStream, asyncio.TimerHandle] = {}

    def opened(self, live: LiveStream) -> None:
        """Set the time at which a stream has to end, if the client was let in by a certificate."""
        if live.credential is not None:
            self._end_in_time(live, live.credential)

    def closed(self, live: LiveStream) -> None:
        """Forget a stream that is gone."""
        timer = self._timers.pop(live, None)
        if timer is not None:
            timer.cancel()

    def _end_in_time(self, live: LiveStream, shown: Credential) -> None:
        """End a stream before the certificate by which its client was let in expires."""
        self._end_in(seconds_left(shown, self._clock), live, CERTIFICATE_ENDS)

    def _end_in(self, seconds: float, live: LiveStream, reason: str) -> None:
        """End a stream after this time, unless it has to end earlier."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(live)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[live] = loop.call_later(seconds, live.end, Unavailable(f"{reason}: come back"))
