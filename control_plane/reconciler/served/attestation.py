"""What sidecars saw their own Envoy serve.

The rule of this module: the sidecar beside an Envoy is the best witness. Its report counts while it
keeps reporting. The control plane itself looks at an instance that has no such sidecar. What an
instance serves that is about to stop proves nothing: its Envoy ends before its app, as it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from control_plane.clock import Clock
from control_plane.names import InstanceGuid

REPORT_SECONDS = (10.0, 30.0)
"""The longest time between two reports of a sidecar: the first in a small fleet, up to the second
in a large one. Our sidecar waits 40 s for the answer to a report."""

REPORTS_PER_SECOND = 200.0
"""How many reports without news arrive at most, up to 6,000 sidecars."""

NOBODY_LOOKS = "no sidecar reports, and the control plane has no address that Envoy lets in"

FELL_SILENT = "its sidecar saw no handshake with it yet, and reports no more: restart it"
"""Why nothing newer is known about a certificate that its sidecar did not see served."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What a sidecar saw, and when it said so on the server's monotonic clock."""

    serial: int | None
    at: float
    exposed: tuple[int, ...]
    app_ports: Mapping[int, bool]
    trusted: frozenset[str]
    is_ending: bool


class Attestation:
    """The last report of each sidecar."""

    def __init__(self, clock: Clock) -> None:
        """Start without reports."""
        self._clock = clock
        self._reports: dict[InstanceGuid, _Report] = {}
        self._news: dict[InstanceGuid, asyncio.Event] = {}
        self._observers: list[Callable[[InstanceGuid], None]] = []

    def observe(self, observer: Callable[[InstanceGuid], None]) -> None:
        """Call an observer with each instance that is reported on; it has to return at once."""
        self._observers.append(observer)

    @property
    def report_seconds(self) -> float:
        """The longest time between two reports of a sidecar."""
        least, most = REPORT_SECONDS
        return min(most, max(least, len(self._reports) / REPORTS_PER_SECOND))

    def witnessed(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has a sidecar that reports."""
        report = self._reports.get(instance)
        return report is not None and self._clock.monotonic() - report.at < 3 * self.report_seconds

    def is_ending(self, instance: InstanceGuid) -> bool:
        """Tell whether a sidecar reports that its instance is about to stop, or has stopped."""
        return self.witnessed(instance) and self._reports[instance].is_ending

    def fell_silent(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance's sidecar has reported to this process but no longer does."""
        return instance in self._reports and not self.witnessed(instance)

    def served(self, instance: InstanceGuid) -> int | None:
        """Return the serial that the sidecar saw last; None if it saw none."""
        report = self._reports.get(instance)
        return report.serial if report is not None else None

    def exposed(self, instance: InstanceGuid) -> tuple[int, ...]:
        """Return the ports of the app that the sidecar found open past Envoy."""
        report = self._reports.get(instance)
        return report.exposed if report is not None else ()

    def app_ports(self, instance: InstanceGuid) -> Mapping[int, bool] | None:
        """Return for each port of the app whether it accepts connections; None if unknown."""
        report = self._reports.get(instance)
        if report is None or not self.witnessed(instance):
            return None
        return report.app_ports or None

    def trusted(self, instance: InstanceGuid) -> frozenset[str]:
        """Return the fingerprints of the roots that a sidecar trusts; none if it has not said."""
        report = self._reports.get(instance)
        return report.trusted if report is not None else frozenset()

    def report(
        self,
        instance: InstanceGuid,
        serial: int | None,
        exposed: tuple[int, ...],
        app_ports: Mapping[int, bool] | None = None,
        trusted: frozenset[str] = frozenset(),
        *,
        is_ending: bool = False,
    ) -> None:
        """Take what a sidecar saw.

        Args:
            instance: the instance of the sidecar.
            serial: the serial of the certificate that its Envoy serves; None if it serves none.
            exposed: the ports of the app that are open past Envoy.
            app_ports: for each port of the app whether it accepts connections; None if the sidecar
                has not said.
            trusted: the fingerprints of the roots that the sidecar trusts.
            is_ending: whether the instance is about to stop, or has stopped.
        """
        now = self._clock.monotonic()
        ports = app_ports or {}
        self._reports[instance] = _Report(serial, now, exposed, ports, trusted, is_ending)
        news = self._news.pop(instance, None)
        if news is not None:
            news.set()
        for observer in self._observers:
            observer(instance)

    async def news(self, instance: InstanceGuid, timeout: float) -> None:
        """Return when the sidecar reports again, or after this many seconds."""
        event = self._news.setdefault(instance, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._reports.pop(instance, None)
        self._news.pop(instance, None)
