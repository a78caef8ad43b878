"""What an app's ports were, and who might call, for as long as connections from then may be open.

The rule of this module: a filter chain that was replaced or withdrawn serves its connections until
Envoy has drained them, and needs the cluster and the filter that it had. Without the cluster, the
next request on each connection would be answered with 503; without the filter, with 403. Moreover,
the filter of an app that may no longer call has to say so, since not every client is told that a
resource is gone.

The monotonic clock measures the drain time. After a restart the wall clock gives what is left of
it, which never exceeds the full drain time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from control_plane.clock import Clock
from control_plane.model.entities import App, AppProtocol, DrainingCaller, DrainingPort, Entity
from control_plane.model.ports import PortMapping, forwarded
from control_plane.names import AppGuid
from control_plane.planner import NOTHING_GONE, Gone

DRAIN_SECONDS = 60.0
"""How long connections may drain; under a sidecar they have ``--drain-time``, by default 10 s."""


class _Recent:
    """What is gone from one app, and until when it may drain."""

    def __init__(self) -> None:
        self.ports: dict[PortMapping, tuple[AppProtocol, float]] = {}
        self.callers: dict[AppGuid, float] = {}

    def is_over(self, now: float) -> bool:
        return all(until <= now for until in self.ends())

    def ends(self) -> Iterator[float]:
        yield from (until for _, until in self.ports.values())
        yield from self.callers.values()


class Draining:
    """Knows which port mappings and policies are gone but were there a moment ago."""

    def __init__(self, left: Iterable[DrainingPort | DrainingCaller], clock: Clock) -> None:
        """Start with what an earlier run left draining."""
        self._clock = clock
        self._gone: dict[AppGuid, _Recent] = {}
        now = clock.now()
        for each in left:
            self._note(each, min((each.ends_at - now).total_seconds(), DRAIN_SECONDS))

    def committed(self, puts: Iterable[Entity]) -> None:
        """Note what drains from now on."""
        now = self._clock.monotonic()
        for guid in [app for app, recent in self._gone.items() if recent.is_over(now)]:
            del self._gone[guid]
        for each in puts:
            if isinstance(each, DrainingPort | DrainingCaller):
                self._note(each, DRAIN_SECONDS)

    def _note(self, draining: DrainingPort | DrainingCaller, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        match draining:
            case DrainingPort(app, app_port, proxy_port, protocol):
                ports = self._gone.setdefault(app, _Recent()).ports
                ports[PortMapping(app_port, proxy_port)] = protocol, until
            case DrainingCaller(source, destination):
                self._gone.setdefault(destination, _Recent()).callers[source] = until

    def of(self, app: App) -> Gone:
        """Return what an app's ports were until a moment ago, and who might call until then."""
        recent = self._gone.get(app.guid)
        if recent is None:
            return NOTHING_GONE
        now, there = self._clock.monotonic(), forwarded(app)
        ports = {
            each: of
            for each, (of, until) in recent.ports.items()
            if until > now and there.get(each) is not of
        }
        return Gone(ports, frozenset(a for a, until in recent.callers.items() if until > now))

    def left(self, app: AppGuid) -> timedelta | None:
        """Return how soon something will have drained; None if nothing is draining."""
        recent = self._gone.get(app)
        now = self._clock.monotonic()
        ends = [until - now for until in recent.ends() if until > now] if recent else []
        return timedelta(seconds=min(ends)) if ends else None
