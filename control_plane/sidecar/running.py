"""A running instance: an Envoy, its app, and how both come to an end.

The rule of this module: the app and Envoy are codependent. Whichever ends first ends the other and
gives the exit code. An instance that is told to stop first reports that it drains, so that no new
clients come. Then it drains the clients that it has, and only then ends the app. Until it reports
that it has left, which comes last, the app may call others; it may have to before it can answer.
Each step has a deadline, and a second signal (``hurry``) ends the step at once. Envoy ends once it
serves no client any more. If it still serves one, it ends after the app, which may yet answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from control_plane import log_events
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.processes.child import Child
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.race import first_of, within
from control_plane.sidecar.reports.report import Reporter
from control_plane.sidecar.signals import Signals
from control_plane.supervisor import STOPPING, tell_supervisor

ENVOY_STOP_SECONDS = 5.0
"""How long Envoy may take to end once nothing is left for it to do; it takes milliseconds."""

_LAST_SECONDS = 0.3
"""How long, even in a hurry, the sidecar waits for a report that the instance drains, or has left.
That takes milliseconds, and without it names would lead here for another 30 s."""

_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.1

_REFUSING_SECONDS = 0.3
"""How long Envoy goes on after it has begun to refuse new connections. Connections that it accepted
just before may be in their handshake, which no statistic of Envoy counts, and have yet to send
their first request."""


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """The processes of an instance, and what stops them.

    Attributes:
        app: None if something else runs it.
    """

    envoy: Child
    app: Child | None
    admin: EnvoyAdmin
    reporter: Reporter
    signals: Signals
    options: SidecarOptions

    async def to_the_end(self) -> int:
        """Return the exit code once Envoy and the app have ended, for whatever reason."""
        await first_of(self.signals.stop.wait(), self._one_ended())
        tell_supervisor(STOPPING)
        log = structlog.get_logger(__name__)
        if self.app is not None and self.app.has_ended:
            code = await self.app.ended()
            log.info(log_events.APP_EXITED, code=code)
            leaving = self._say(self.reporter.leave())
            await asyncio.gather(leaving, self._stop_app(), self._stop_envoy())
            return code
        if self.envoy.has_ended:
            code = await self.envoy.ended()
            log.error(log_events.ENVOY_EXITED, code=code)
            await asyncio.gather(self._say(self.reporter.retire()), self._stop_app())
            await self._say(self.reporter.leave())
            return code
        log.info(log_events.SIDECAR_STOPPING, signal=self.signals.number.name)
        return await self._stop_in_order()

    async def _stop_in_order(self) -> int:
        await self._say(self.reporter.retire())
        wait = self.options.offline_wait.total_seconds()
        await within(wait, self.signals.hurry, self._one_ended())
        await first_of(self._drain(), self.signals.hurry.wait())
        app_code = await self._stop_app()
        envoy_code, _ = await asyncio.gather(self._stop_envoy(), self._say(self.reporter.leave()))
        return envoy_code if app_code is None else app_code

    async def _say(self, report: Coroutine[Any, Any, None]) -> None:
        """Report to a control plane that may not answer."""
        await first_of(report, self._hurried(_LAST_SECONDS))

    async def _hurried(self, seconds: float) -> None:
        await self.signals.hurry.wait()
        await asyncio.sleep(seconds)

    async def _drain(self) -> None:
        """Send clients away while the app can still answer them."""
        log = structlog.get_logger(__name__)
        try:
            await self.admin.drain()
        except TimeoutError:
            pass  # Envoy was told, and drains as soon as it gets to it
        except OSError as error:
            log.warning(log_events.ENVOY_DRAINED, reason=f"it was not told to: {error}")
            return
        seconds = self.options.drain_time.total_seconds()
        await first_of(self._let_go(seconds), self._one_ended(), asyncio.sleep(seconds))
        log.info(log_events.ENVOY_DRAINED, in_flight=await self.admin.in_flight())

    async def _let_go(self, seconds: float) -> None:
        """Return once no client is served; Envoy takes new connections for as long as it can."""
        almost = max(seconds - _REFUSING_SECONDS, 0)
        await first_of(self._idle(_QUIET_SECONDS), asyncio.sleep(almost))
        with suppress(OSError):
            await self.admin.refuse()
        await self._idle(_REFUSING_SECONDS)
        # A client that kept its connection finds it closed, instead of getting a 503 while the app
        # ends.
        await self._stop_envoy()

    async def _idle(self, seconds: float) -> None:
        """Return once nothing has been in flight for a while, so that no request is cut off."""
        polls = 0
        while polls < seconds / _POLL_SECONDS:
            polls = polls + 1 if await self.admin.in_flight() == 0 else 0
            await asyncio.sleep(_POLL_SECONDS)

    async def _one_ended(self) -> None:
        children = (self.envoy,) if self.app is None else (self.envoy, self.app)
        await first_of(*(each.ended() for each in children))

    async def _stop_app(self) -> int | None:
        if self.app is None:
            return None
        return await self.app.stop(self.options.stop_time.total_seconds(), self.signals.hurry)

    async def _stop_envoy(self) -> int:
        return await self.envoy.stop(ENVOY_STOP_SECONDS, self.signals.hurry)
