"""What the ports of apps were, for as long as connections of that time may be open.

The rule of this module: a listener that was replaced or withdrawn serves its connections until
Envoy has drained them, and needs the cluster and the filter that it had. Without the cluster the
next request on each of them would be answered 503, and without the filter 403. A restart of the
control plane forgets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from control_plane.clock import Clock
from control_plane.model.entities import App, AppProtocol, Entity
from control_plane.model.ports import PortMapping
from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.planner import NO_PORTS, forwarded

DRAIN_SECONDS = 60.0
"""How long connections may drain; those of a sidecar have ``--drain-time``, by default 10 s."""

_Gone = dict[PortMapping, tuple[AppProtocol, float]]
"""What was spoken on ports, and until when it may be."""


class Draining:
    """Knows which port mappings are gone, and were there a moment ago."""

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self._clock = clock
        self._gone: dict[AppGuid, _Gone] = {}

    def committed(self, before: State, puts: Iterable[Entity]) -> None:
        """Note what the apps that changed were before."""
        now = self._clock.monotonic()
        for guid in [app for app, ports in self._gone.items() if _is_over(ports, now)]:
            del self._gone[guid]
        for app in (each for each in puts if isinstance(each, App)):
            known = before.app(app.guid)
            if known is not None and (were := forwarded(known)) != forwarded(app):
                ports = self._gone.setdefault(app.guid, {})
                ports.update({each: (of, now + DRAIN_SECONDS) for each, of in were.items()})

    def of(self, app: App) -> Mapping[PortMapping, AppProtocol]:
        """Return what the ports of an app were a moment ago and are no more."""
        gone = self._gone.get(app.guid)
        if not gone:
            return NO_PORTS
        now, there = self._clock.monotonic(), forwarded(app)
        return {each: of for each, (of, until) in gone.items() if until > now and each not in there}

    def left(self, app: AppGuid) -> timedelta | None:
        """Return how soon some port will be drained; None if nothing is draining."""
        gone = self._gone.get(app)
        if not gone:
            return None
        now = self._clock.monotonic()
        ends = [until - now for _, until in gone.values() if until > now]
        return timedelta(seconds=min(ends)) if ends else None


def _is_over(ports: _Gone, now: float) -> bool:
    return all(until <= now for _, until in ports.values())
