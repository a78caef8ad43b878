"""What sidecars saw their own Envoy serve.

The rule of this module: the best witness is next door. A sidecar's report counts while it keeps
reporting; an instance without one is looked at from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from control_plane.clock import Clock
from control_plane.names import InstanceGuid

REPORT_SECONDS = (10.0, 30.0)
"""How often a sidecar reports at the least: the first in a small fleet, up to the second in a big
one. A sidecar of ours waits 40 s for the answer to a report."""

REPORTS_PER_SECOND = 200.0
"""How many reports of those that bring nothing new are made at the most, up to 6,000 sidecars."""

NOBODY_LOOKS = "no sidecar reports, and the control plane has no address that Envoy lets in"

FELL_SILENT = "its sidecar saw no handshake with it yet, and reports no more: restart it"
"""Why nobody knows better of a certificate that its sidecar did not see served."""


class Attestation:
    """The serial that each instance was last seen to serve, by its sidecar."""

    def __init__(self, clock: Clock) -> None:
        """Start with no witness."""
        self._clock = clock
        self._served: dict[InstanceGuid, tuple[int | None, float]] = {}
        self._news: dict[InstanceGuid, asyncio.Event] = {}
        self._observers: list[Callable[[InstanceGuid], None]] = []
        self.exposed: dict[InstanceGuid, tuple[int, ...]] = {}
        self._app_ports: dict[InstanceGuid, Mapping[int, bool]] = {}
        self._trusted: dict[InstanceGuid, frozenset[str]] = {}

    def observe(self, observer: Callable[[InstanceGuid], None]) -> None:
        """Tell somebody of each instance that was reported on; it returns at once."""
        self._observers.append(observer)

    @property
    def report_seconds(self) -> float:
        """How often a sidecar reports at the least."""
        least, most = REPORT_SECONDS
        return min(most, max(least, len(self._served) / REPORTS_PER_SECOND))

    def witnessed(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a sidecar that reports."""
        seen = self._served.get(instance)
        return seen is not None and self._clock.monotonic() - seen[1] < 3 * self.report_seconds

    def fell_silent(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a sidecar that reported to this process, and ceased to."""
        return instance in self._served and not self.witnessed(instance)

    def served(self, instance: InstanceGuid) -> int | None:
        """Return the serial that was seen last; None if there was none."""
        seen = self._served.get(instance)
        return seen[0] if seen is not None else None

    def app_ports(self, instance: InstanceGuid) -> Mapping[int, bool] | None:
        """Return for each port of the app whether it accepts connections; None if nobody tells."""
        return (self._app_ports.get(instance) or None) if self.witnessed(instance) else None

    def trusted(self, instance: InstanceGuid) -> frozenset[str]:
        """Return the fingerprints of the roots that a sidecar trusts; none if it does not tell."""
        return self._trusted.get(instance, frozenset())

    def report(
        self,
        instance: InstanceGuid,
        serial: int | None,
        exposed: tuple[int, ...],
        app_ports: Mapping[int, bool] | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        """Take what a sidecar saw."""
        self._served[instance] = (serial, self._clock.monotonic())
        self._app_ports[instance] = app_ports or {}
        self._trusted[instance] = trusted
        if exposed:
            self.exposed[instance] = exposed
        else:
            self.exposed.pop(instance, None)
        news = self._news.pop(instance, None)
        if news is not None:
            news.set()
        for observer in self._observers:
            observer(instance)

    async def news(self, instance: InstanceGuid, timeout: float) -> None:
        """Return when the sidecar reports again, or after that many seconds."""
        event = self._news.setdefault(instance, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._served.pop(instance, None)
        self._news.pop(instance, None)
        self._app_ports.pop(instance, None)
        self._trusted.pop(instance, None)
        self.exposed.pop(instance, None)
