"""Reports of the instance's state to the control plane.

The rule of this module: every change is reported at once, and a change of the identity soon, so
that no stream of reports outlives the identity that it shows. While nothing changes, nothing is
reported until the control plane has something to say, for example that another certificate should
be served by now. The sidecar hears the control plane at any time. The control plane may be down, or
support no reports at all; nothing else in the sidecar depends on them. After ``retire``, every
report says that the instance drains; after ``leave``, nothing is reported that could bring it back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator

import grpc
import structlog

from control_plane import log_events
from control_plane.api.v1 import sidecar_pb2
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError
from control_plane.sidecar.channel import reason
from control_plane.sidecar.directory import Credentials
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.identity import HeldIdentity
from control_plane.sidecar.race import first_of
from control_plane.sidecar.reports.app_ports import LivePorts
from control_plane.sidecar.reports.calls import ReportCalls
from control_plane.sidecar.reports.lookout import Lookout
from control_plane.sidecar.reports.readiness import Observation, Observer
from control_plane.sidecar.retry import delays
from control_plane.sidecar.seldom import Seldom

ANSWER_SECONDS = 40.0
"""How long the control plane may stay silent."""

GREETING_SECONDS = 3.0
"""How long a report may take for which something else waits: the first one, and the last one."""

AGAIN_SECONDS = (1.0, 3600.0)
"""Bounds of the pause that the control plane may ask for before the next report."""

UNASKED_SECONDS = 30.0
"""After how long to report again if the control plane did not say."""

UNSUPPORTED_SECONDS = 600.0
"""After how long to try again at a control plane that supports no reports: it may be upgraded."""

SETTLE_SECONDS = 5.0
"""How long Envoy has to come back with a new identity before a report shows it: from the first such
report on, the control plane accepts the earlier identity no more."""

_Call = Callable[[sidecar_pb2.ReportRequest, float], Awaitable[sidecar_pb2.ReportResponse]]


class Reporter:
    """Observes the instance, and reports."""

    name = "report"

    def __init__(
        self,
        calls: ReportCalls,
        live: LiveCredentials,
        ports: LivePorts,
        observer: Observer,
        *,
        clock: Clock,
        draw: Callable[[], float],
    ) -> None:
        """Report by these calls; nothing was reported yet.

        Args:
            calls: where reports are sent.
            live: takes the CA certificates in the answers.
            ports: takes the ports of the app in the answers.
            observer: observes the instance.
            clock: times the next observation and the next report.
            draw: returns a number from 0 up to 1, another one each time.
        """
        self._calls = calls
        self._live = live
        self._ports = ports
        self._lookout = Lookout(observer, clock)
        self._clock = clock
        self._draw = draw
        self._next = clock.monotonic()
        self._delays: Iterator[float] | None = None
        self._telling = asyncio.Lock()
        self._draining = False
        self._leaving = False
        self._interrupted = asyncio.Event()
        self._replaced = asyncio.Event()
        self._replaced_at = clock.monotonic()
        live.watch(self._note)
        self._seldom = Seldom(clock)
        self._log = structlog.get_logger(__name__)

    async def first(self) -> None:
        """Report that the instance starts; the control plane may be down."""
        await self._tell(await self._lookout.look(), self._calls.report, GREETING_SECONDS)

    async def run(self) -> None:
        """Observe and report until cancelled; after ``leave``, do neither."""
        while not self._leaving:
            await first_of(self._interrupted.wait(), self._keep_telling())
            self._interrupted.clear()
        await asyncio.get_running_loop().create_future()

    async def retire(self) -> None:
        """Report that the instance takes no more callers; it may still call others."""
        self._draining = True
        await self._tell_now()

    async def leave(self) -> None:
        """Report that the instance has stopped, or is about to."""
        self._leaving = True
        await self._tell_now()
        await self._calls.close()

    async def _tell_now(self) -> None:
        """Report once, and wait until it was heard; the stream of reports tells nobody of that.

        An instance that stops waits for no disk, and what is answered may have to be stored.
        """
        self._interrupted.set()
        await self._report(self._lookout.seen, self._calls.report, GREETING_SECONDS)

    async def _keep_telling(self) -> None:
        while True:
            seen, identity = await self._lookout.look(), self._live.current.identity
            telling = self._tell(seen, self._calls.keep_reporting, ANSWER_SECONDS)
            await first_of(telling, self._lookout.changed_from(seen), self._other_than(identity))
            if self._delays is not None:
                # The control plane is away, so a change is no reason to report early. Its return is
                # a reason: until it hears otherwise, it takes an instance that reported its leave
                # for gone.
                left = self._next - self._clock.monotonic()
                await first_of(
                    self._clock.sleep(left), self._calls.reconnected(), self._keep_looking()
                )
                continue
            while (left := self._next - self._clock.monotonic()) > 0 and self._lookout.seen == seen:
                if self._is_settled(identity):
                    break
                await first_of(
                    self._clock.sleep(left),
                    self._lookout.changed_from(seen),
                    self._other_than(identity),
                    self._hear(),
                )

    def _note(self, _: Credentials) -> None:
        self._replaced_at = self._clock.monotonic()
        self._replaced.set()

    def _is_settled(self, identity: HeldIdentity) -> bool:
        """Tell whether the instance has had another identity for long enough to show that now."""
        now, replaced_at = self._clock.monotonic(), self._replaced_at
        return self._live.current.identity is not identity and now >= replaced_at + SETTLE_SECONDS

    async def _other_than(self, identity: HeldIdentity) -> None:
        """Return once the instance has had another identity for long enough.

        The control plane ends streams that show the earlier one.
        """
        while not self._is_settled(identity):
            if self._live.current.identity is identity:
                self._replaced.clear()
                await self._replaced.wait()
            else:
                left = self._replaced_at + SETTLE_SECONDS - self._clock.monotonic()
                await self._clock.sleep(left)

    async def _hear(self) -> None:
        """Take what is said between two reports; it may bring the next one forward, never delay it.

        The control plane speaks when a report is due, and goes on speaking until one arrives.
        """
        shown, due = self._live.current.identity, self._next
        response = await self._calls.hear()
        await self._answered(response, self._clock.monotonic(), shown, due=due)

    async def _keep_looking(self) -> None:
        while True:
            await self._lookout.changed_from(self._lookout.seen)

    async def _tell(self, seen: Observation, call: _Call, seconds: float) -> None:
        """Report, and do what the answer says."""
        heard = await self._report(seen, call, seconds)
        if heard is not None:
            await self._answered(*heard)

    async def _report(
        self, seen: Observation, call: _Call, seconds: float
    ) -> tuple[sidecar_pb2.ReportResponse, float, HeldIdentity] | None:
        """Report; return the answer, and when and by which identity the report was sent.

        None if there was no answer.
        """
        request = sidecar_pb2.ReportRequest(
            listening=seen.listening,
            exposed_ports=seen.exposed_ports,
            served_serial=seen.served_serial,
            leaving=self._leaving,
            open_ports=seen.open_ports,
            closed_ports=seen.closed_ports,
            trusted_roots=self._live.trusted_roots,
            c2c_port=seen.c2c_port or 0,
            not_serving=seen.not_serving,
            draining=self._draining,
        )
        async with self._telling:
            started, shown = self._clock.monotonic(), self._live.current.identity
            try:
                return await call(request, seconds), started, shown
            except grpc.aio.AioRpcError as error:
                self._failed(error)
                is_unknown = error.code() is grpc.StatusCode.PERMISSION_DENIED
                is_current = self._live.current.identity is shown
                if is_unknown and is_current and not self._leaving:
                    # Another instance may have had the address meanwhile. A renewal registers this
                    # one again, unless it was removed.
                    self._live.renewal_wanted.set()
                return None

    async def _answered(
        self,
        response: sidecar_pb2.ReportResponse,
        started: float,
        shown: HeldIdentity,
        *,
        due: float = math.inf,
    ) -> None:
        if self._delays is not None:
            self._log.info(log_events.REPORT_ACCEPTED)
            self._delays = None
        least, most = AGAIN_SECONDS
        asked = response.report_again_in.ToTimedelta().total_seconds() or UNASKED_SECONDS
        self._next = min(started + min(max(asked, least), most), due)
        self._lookout.expect(response.expected_serial)
        await self._follow(response)
        if response.trust_bundle:
            await self._trust(response.trust_bundle.encode())
        # An answer to the earlier identity says nothing about this one.
        if response.renew_identity and self._live.current.identity is shown:
            self._live.renewal_wanted.set()

    async def _follow(self, response: sidecar_pb2.ReportResponse) -> None:
        before = self._ports.current
        try:
            await self._ports.follow(response.c2c_port, response.app_ports)
        except ControlPlaneError as error:
            self._cannot_use(f"ports of the app: {error}")
        if self._ports.current != before:
            self._lookout.hasten()

    async def _trust(self, bundle: bytes) -> None:
        before = self._live.trusted_roots
        try:
            await self._live.trust(bundle)
        except ControlPlaneError as error:
            self._cannot_use(f"trust bundle: {error}")
        if self._live.trusted_roots != before:
            # Report at once: the control plane waits for this before it signs with another CA.
            self._next = self._clock.monotonic()

    def _cannot_use(self, why: str) -> None:
        """Log that an answer could not be used; the next answer may be the same."""
        log = self._log.error if self._seldom.is_news(why) else self._log.debug
        log(log_events.REPORT_FAILED, reason=why)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        is_first, self._delays = self._delays is None, self._delays or delays(self._draw)
        wait = next(self._delays)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            wait = UNSUPPORTED_SECONDS
        self._next = self._clock.monotonic() + wait
        # The same failure again is no news; the first success after it is.
        log = self._log.warning if is_first else self._log.debug
        log(log_events.REPORT_FAILED, reason=reason(error), again_in=round(wait, 1))
