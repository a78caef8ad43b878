"""How often the instance is observed, and what of that is logged.

The rule of this module: after a change, or when a change is expected, the sidecar looks again soon,
and then less and less often. Each change is logged once, and so is an app that never listened.
"""

from __future__ import annotations

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.sidecar.reports.readiness import UNSEEN, Observation, Observer

LOOK_SECONDS = (0.05, 2.0)
"""How soon to look again after a change, or when one is expected, and how often otherwise."""

CLOSELY_SECONDS = 0.5
"""How often to look while another certificate should be served. One second after an Envoy ACKed it,
the control plane counts it as not served."""

AWAITED_SECONDS = 10.0
"""After how long it is logged that the app does not listen; until then it may just be starting."""


class Lookout:
    """Observes an instance repeatedly.

    Attributes:
        seen: the last observation.
    """

    def __init__(self, observer: Observer, clock: Clock) -> None:
        """Start before the first observation."""
        self.seen = UNSEEN
        self._observer = observer
        self._clock = clock
        self._expected = ""
        self._awaited_at: float | None = clock.monotonic() + AWAITED_SECONDS
        self._pause = LOOK_SECONDS[0]
        self._log = structlog.get_logger(__name__)

    def expect(self, serial: str) -> None:
        """Look closely until this certificate is served; "" if no particular one is expected."""
        if serial != self._expected:
            self._expected = serial
            self.hasten()

    def hasten(self) -> None:
        """Look again soon, because a change is expected."""
        self._pause = LOOK_SECONDS[0]

    async def changed_from(self, seen: Observation) -> None:
        """Return once the observation is another one; until then, look less and less often."""
        while self.seen == seen:
            await self._clock.sleep(self._pause)
            awaits = self._expected not in ("", self.seen.served_serial)
            self._pause = min(self._pause * 1.5, CLOSELY_SECONDS if awaits else LOOK_SECONDS[1])
            await self.look()

    async def look(self) -> Observation:
        """Return how the instance is now."""
        seen, before = await self._observer.observe(), self.seen
        self.seen = seen
        if seen != before:
            self.hasten()
        if seen.listening != before.listening:
            self._log.info(log_events.APP_LISTENING, listening=seen.listening)
        self._await_app(seen)
        if seen.exposed_ports and seen.exposed_ports != before.exposed_ports:
            self._log.warning(
                log_events.APP_EXPOSED,
                ports=seen.exposed_ports,
                reason="the app can be reached by TCP past Envoy, where no network policy holds: "
                "have it listen on 127.0.0.1 only",
            )
        return seen

    def _await_app(self, seen: Observation) -> None:
        """Log once that the app has not listened since the start: nothing else here shows that."""
        if self._awaited_at is None or self._clock.monotonic() < self._awaited_at:
            return
        self._awaited_at = None
        if not seen.listening and seen.closed_ports:
            self._log.info(
                log_events.APP_AWAITED,
                ports=seen.closed_ports,
                reason="the app does not accept connections there: until it does, no name leads "
                "to this instance, unless its health check type is process",
            )
