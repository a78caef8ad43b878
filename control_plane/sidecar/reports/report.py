"""Telling the control plane how the instance is.

The rule of this module: every change is told at once, and that of the identity soon, so that no
stream of reports outlives the identity that it shows. While nothing changes, nothing is told until
the control plane has something to say, such as that another certificate should be served by now.
What it says is heard at any time. The control plane may be away, or take no reports at all: nothing
else here depends on them. After ``leave`` nothing is told that could bring the instance back.
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
"""How long the control plane may have nothing to say."""

GREETING_SECONDS = 3.0
"""How long a report may take that something else waits for: the first, and the last."""

AGAIN_SECONDS = (1.0, 3600.0)
"""Bounds of the time after which the control plane may ask for the next report."""

UNASKED_SECONDS = 30.0
"""When to report again if the control plane did not say."""

UNSUPPORTED_SECONDS = 600.0
"""When to try again at a control plane that takes no reports: it may be updated."""

SETTLE_SECONDS = 5.0
"""How long Envoy has to come back with a new identity before a report shows it: from the first
report that does, the identity before is worth nothing."""

_Call = Callable[[sidecar_pb2.ReportRequest, float], Awaitable[sidecar_pb2.ReportResponse]]


class Reporter:
    """Looks at the instance, and tells."""

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
        """Tell by these calls; nothing was told yet.

        Args:
            calls: where to.
            live: takes the CA certificates that come back.
            ports: takes the ports of the app that do.
            observer: looks at the instance.
            clock: times the next look and the next report.
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
        self._leaving = asyncio.Event()
        self._replaced = asyncio.Event()
        self._replaced_at = clock.monotonic()
        live.watch(self._note)
        self._seldom = Seldom(clock)
        self._log = structlog.get_logger(__name__)

    async def first(self) -> None:
        """Tell that the instance starts; it may be that nobody hears it."""
        await self._tell(await self._lookout.look(), self._calls.report, GREETING_SECONDS)

    async def run(self) -> None:
        """Look and tell, without end; after ``leave``, do neither."""
        await first_of(self._leaving.wait(), self._keep_telling())
        await asyncio.get_running_loop().create_future()

    async def leave(self) -> None:
        """Tell that the instance stops."""
        self._leaving.set()
        await self._tell(self._lookout.seen, self._calls.report, GREETING_SECONDS)
        await self._calls.close()

    async def _keep_telling(self) -> None:
        while True:
            seen, identity = await self._lookout.look(), self._live.current.identity
            telling = self._tell(seen, self._calls.keep_reporting, ANSWER_SECONDS)
            await first_of(telling, self._lookout.changed_from(seen), self._other_than(identity))
            if self._delays is not None:
                # Nobody listens, so a change is no reason to report early. That the control plane
                # is back is one: until it hears otherwise, an instance that left before is gone.
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
        """Tell whether the instance has had another identity for long enough to show it here."""
        now, replaced_at = self._clock.monotonic(), self._replaced_at
        return self._live.current.identity is not identity and now >= replaced_at + SETTLE_SECONDS

    async def _other_than(self, identity: HeldIdentity) -> None:
        """Return once the instance has had another identity for long enough.

        The control plane ends what shows the one before.
        """
        while not self._is_settled(identity):
            if self._live.current.identity is identity:
                self._replaced.clear()
                await self._replaced.wait()
            else:
                left = self._replaced_at + SETTLE_SECONDS - self._clock.monotonic()
                await self._clock.sleep(left)

    async def _hear(self) -> None:
        """Take what is said between two reports, of which the next may be due by it, never later.

        The control plane speaks when a report is due, and goes on speaking until one comes.
        """
        shown, due = self._live.current.identity, self._next
        response = await self._calls.hear()
        async with self._telling:
            await self._answered(response, self._clock.monotonic(), shown, due=due)

    async def _keep_looking(self) -> None:
        while True:
            await self._lookout.changed_from(self._lookout.seen)

    async def _tell(self, seen: Observation, call: _Call, seconds: float) -> None:
        request = sidecar_pb2.ReportRequest(
            listening=seen.listening,
            exposed_ports=seen.exposed_ports,
            served_serial=seen.served_serial,
            leaving=self._leaving.is_set(),
            open_ports=seen.open_ports,
            closed_ports=seen.closed_ports,
            trusted_roots=self._live.trusted_roots,
            c2c_port=seen.c2c_port or 0,
            not_serving=seen.not_serving,
        )
        shown = self._live.current.identity
        async with self._telling:
            started = self._clock.monotonic()
            try:
                response = await call(request, seconds)
            except grpc.aio.AioRpcError as error:
                self._failed(error)
            else:
                await self._answered(response, started, shown)

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
        # An answer to the identity before says nothing of this one.
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
            # The control plane waits for this before it signs with another CA.
            self._next = self._clock.monotonic()

    def _cannot_use(self, why: str) -> None:
        """Say what became of an answer; with the next it may be the same again."""
        log = self._log.error if self._seldom.is_news(why) else self._log.debug
        log(log_events.REPORT_FAILED, reason=why)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        is_first, self._delays = self._delays is None, self._delays or delays(self._draw)
        wait = next(self._delays)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            wait = UNSUPPORTED_SECONDS
        self._next = self._clock.monotonic() + wait
        # The same again and again says nothing new; the first success after it does.
        log = self._log.warning if is_first else self._log.debug
        log(log_events.REPORT_FAILED, reason=reason(error), again_in=round(wait, 1))
