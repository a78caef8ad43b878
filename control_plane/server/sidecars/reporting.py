"""The reports of one sidecar on one stream: when the sidecar is answered.

The rule of this module: the sidecar is answered when there is something to say. That is the case
when it should serve another certificate than its last report showed, examine other ports of the
app, trust other CAs, or renew its identity; each of these is said once for each report. It is also
the case when its last report is as old as a report may be, so that it reports again. One task reads
and another writes, and neither waits for the other. A sidecar that does not read keeps its stream
no longer than any other does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from control_plane.clock import Clock
from control_plane.errors import InvalidArgument
from control_plane.server.access.admission import Context

_AT_ONCE = 0.1
"""A time in seconds that is too short to wait for. A sidecar that was asked reports within that
time, so its last report is that much younger than the question. Without this, each round would end
with a second timer for just that time."""


class Facts(NamedTuple):
    """What a sidecar says in a report, or what it should say.

    Attributes:
        serial: the serial of the certificate that is served.
        ports: the app's ports: the one that 61443 leads to, and all of them; None from a sidecar
            that does not want to be told.
        roots: the fingerprints of the CA certificates that are trusted; None from a sidecar that
            does not say.
        renew_in: after how many seconds the identity should be renewed, 0 or less if it is time;
            None if it may stay, and in every sidecar's report.
    """

    serial: int | None = None
    ports: tuple[int, frozenset[int]] | None = None
    roots: frozenset[str] | None = None
    renew_in: float | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the identity should be renewed now."""
        return self.renew_in is not None and self.renew_in <= 0


class Reporting:
    """The stream of reports of one instance."""

    def __init__(
        self,
        *,
        take: Callable[[Any], Facts],
        expected: Callable[[], Facts],
        answer: Callable[[Facts], object],
        seconds: Callable[[], float],
        turn: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """Start before the first report.

        Args:
            take: takes a report, or raises; returns what it says.
            expected: returns what it should say.
            answer: returns what to say to a sidecar that should say this.
            seconds: returns how old the last word of a sidecar may be.
            turn: counts a report, and returns once another one may be read.
            clock: tells how old it is.
        """
        self._take = take
        self._expected = expected
        self._answer = answer
        self._seconds = seconds
        self._turn = turn
        self._clock = clock
        self._said = Facts()
        self._told = Facts()
        self._spoke_at = clock.monotonic()
        self._woken = asyncio.Event()
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    def wake(self) -> None:
        """Check whether there is something to say to the sidecar."""
        self._woken.set()

    def end(self, reason: Exception | None) -> None:
        """Make ``run`` raise this error, or return if it is None; only the first call counts."""
        if not self._over.is_set():
            self._failure = reason
            self._over.set()

    async def run(self, context: Context) -> None:
        """Read and answer until the sidecar is done or gone, or was refused.

        Raises:
            Exception: what ``take`` or ``answer`` raised, or what ended the stream.
        """
        try:
            # There may be nothing to say for long, and this tells the sidecar that it was let in.
            await context.send_initial_metadata(())
        except grpc.aio.BaseError:
            return  # the sidecar is gone
        tasks = [asyncio.create_task(each(context)) for each in (self._read, self._write)]
        try:
            await self._over.wait()
        finally:
            for task in tasks:
                task.cancel()
        if self._failure is not None:
            raise self._failure

    async def _read(self, context: Context) -> None:
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                self._said, self._told = self._take(request), Facts()
                self._spoke_at = self._clock.monotonic()
                if self._has_news(self._expected()):
                    self._woken.set()
                await self._turn()
            self.end(None)
        except grpc.aio.BaseError:
            self.end(None)
        except DecodeError:
            self.end(InvalidArgument("bytes that are no message of this method"))
        except Exception as error:  # noqa: BLE001 - ``run`` raises it
            self.end(error)

    async def _write(self, context: Context) -> None:
        try:
            while True:
                expected = await self._due()
                self._told, self._spoke_at = expected, self._clock.monotonic()
                await context.write(self._answer(expected))
        except grpc.aio.BaseError:
            self.end(None)
        except Exception as error:  # noqa: BLE001 - likewise
            self.end(error)

    async def _due(self) -> Facts:
        """Wait until there is something to say; return what the sidecar should report then."""
        while True:
            left = self._spoke_at + self._seconds() - self._clock.monotonic()
            expected = self._expected()
            if left <= _AT_ONCE or self._has_news(expected):
                return expected
            if expected.renew_in is not None and expected.renew_in > 0:
                left = min(left, expected.renew_in)
            alarm = asyncio.get_running_loop().call_later(left, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                alarm.cancel()
            self._woken.clear()

    def _has_news(self, expected: Facts) -> bool:
        said, told = self._said, self._told
        if expected.serial not in (None, said.serial, told.serial):
            return True
        if said.ports is not None and expected.ports not in (None, said.ports, told.ports):
            return True
        if said.roots is None:
            return False
        is_renewed = not expected.is_outdated or told.is_outdated
        return expected.roots not in (said.roots, told.roots) or not is_renewed
