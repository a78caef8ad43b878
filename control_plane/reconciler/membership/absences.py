"""Which instances are away, and how long each is given to come back.

The rule of this module: an instance whose streams broke is gone once its time is up, unless no
instance at all is connected while several are waited for. Then it is more likely that the control
plane is cut off, which is as if it were down: no instance counts as gone before one is back, and
from then on each has as much time as after a start. Otherwise the first instances that are back
would refuse the others' connections and would not resolve their names.

An Envoy that comes and goes looks as if the control plane were cut off again and again. So that it
does not keep the others from counting as gone, each of them is given time like that only a few
times in each absence, and only once while its time is not yet up. If the sidecar of an instance
reports meanwhile, the instance is given time once more, since its Envoy may just be waiting for its
next attempt.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

from control_plane import log_events
from control_plane.names import InstanceGuid

GRACE_SECONDS = 30.0
"""How long an instance whose streams broke may stay away: the longest back-off of Envoy."""

GRACE_AFTER_START_SECONDS = 60.0
"""The same after a start of the control plane, or once the first instance is back."""

MOST_EXTENSIONS = 3
"""How often an instance is given the latter in one absence. A network that comes back may break
down again before all instances are back."""


class Absences:
    """Keeps a timer for each instance that is away."""

    def __init__(self, anybody: Callable[[], bool], gone: Callable[[InstanceGuid], None]) -> None:
        """Start with no instance away.

        Args:
            anybody: tells whether the Envoy of any instance is connected.
            gone: is called with an instance whose time is up.
        """
        self._anybody = anybody
        self._gone = gone
        self._timers: dict[InstanceGuid, asyncio.TimerHandle] = {}
        self._heard: set[InstanceGuid] = set()
        self._extensions: Counter[InstanceGuid] = Counter()
        self._unheard: set[InstanceGuid] = set()
        self._overdue: set[InstanceGuid] = set()
        self._holds = False
        self._log = structlog.get_logger(__name__)

    def left(self, instance: InstanceGuid) -> None:
        """Start the timer of an instance whose last stream broke."""
        self._wait(instance, GRACE_SECONDS)

    def expected(self, instance: InstanceGuid) -> None:
        """Start the timer of an instance that was there before the control plane started."""
        self._wait(instance, GRACE_AFTER_START_SECONDS)

    def came(self, instance: InstanceGuid) -> None:
        """Stop waiting for an instance that is there; to be called before ``anybody`` counts it."""
        if not self._anybody():
            self._heard_of_somebody()
        self.forget(instance)

    def spoke(self, instance: InstanceGuid) -> None:
        """Give an instance that is away time once more, since its sidecar reported."""
        timer = self._timers.get(instance)
        if timer is None or instance in self._heard:
            return
        self._heard.add(instance)
        if timer.when() < asyncio.get_running_loop().time() + GRACE_SECONDS:
            self._wait(instance, GRACE_SECONDS)

    def is_overdue(self, instance: InstanceGuid) -> bool:
        """Tell whether the time of an instance is up."""
        return instance in self._overdue

    def keeps_place(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance still owns its address if another instance asks for it."""
        return instance not in self._overdue and instance not in self._unheard

    @property
    def alarm(self) -> str:
        """That no Envoy is connected, and how many instances are waited for; "" otherwise."""
        if not self._unheard:
            return ""
        waited_for = len(self._unheard) + len(self._timers)
        return (
            f"no Envoy is connected, and {waited_for} instances that were are waited for: is this "
            "control plane cut off? None of them counts as gone before one is back"
        )

    def hold(self) -> None:
        """From now on, let no instance's time be up."""
        self._holds = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def forget(self, instance: InstanceGuid) -> None:
        """Forget that an instance is away."""
        timer = self._timers.pop(instance, None)
        if timer is not None:
            timer.cancel()
        del self._extensions[instance]
        for those in (self._heard, self._unheard, self._overdue):
            those.discard(instance)

    def _wait(self, instance: InstanceGuid, seconds: float) -> None:
        """Start the timer of an instance, or restart it."""
        if self._holds:
            return
        if instance in self._timers:
            self._timers[instance].cancel()
        loop = asyncio.get_running_loop()
        self._timers[instance] = loop.call_later(seconds, self._time_is_up, instance)

    def _time_is_up(self, instance: InstanceGuid) -> None:
        del self._timers[instance]
        may_return = self._extensions[instance] < MOST_EXTENSIONS
        if may_return and (self._timers or self._unheard) and not self._anybody():
            is_first = not self._unheard
            self._unheard.add(instance)
            if is_first:
                self._log.warning(log_events.FLEET_UNHEARD, reason=self.alarm)
        else:
            self._overdue.add(instance)
            self._gone(instance)

    def _heard_of_somebody(self) -> None:
        if self._unheard:
            self._log.info(log_events.FLEET_HEARD, instances=len(self._unheard) + len(self._timers))
        for instance in (self._timers.keys() - self._extensions.keys()) | self._unheard:
            self._wait(instance, GRACE_AFTER_START_SECONDS)
            self._extensions[instance] += 1
        self._unheard.clear()
