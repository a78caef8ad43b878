"""Which certificates end soon although they should have been replaced long ago.

The rule of this module: the alarm comes while there is time to act. A certificate is replaced at
half of its life. If it has less than a quarter left, something has failed for hours: for example,
the CA cannot sign, or the instance does not take the new certificate. So this module looks at the
certificates in use, not at those that were issued. And it looks periodically, since a renewal that
does not take place is no event.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings, is_unused

ALARM_FRACTION = 0.25
"""The part of its life that a certificate has left when its alarm comes: 6 of 24 hours."""

CA_LEAD = timedelta(days=30)
"""How long before the end of a CA the alarm comes, unless a quarter of its life is shorter. It is
never shorter than two lives of the certificates that the CA signs: a rotation takes that long."""

LONGEST_PERIOD = timedelta(minutes=1)
"""The longest time between two looks at all certificates."""

_SLICE = 200
"""How many instances are looked at before other tasks have a turn; each takes some microseconds."""

_NAMED = 5
"""How many instances a log line names."""


class Kind(StrEnum):
    """The kinds of certificates, as metrics name them."""

    C2C = "c2c"
    ID = "id"
    IDENTITY = "identity"
    SERVER = "server"
    CA = "ca"


@dataclass(frozen=True, slots=True)
class Alarm:
    """A certificate in use that ends soon.

    Attributes:
        instance: the instance whose certificate it is; None for the control plane's own and for the
            CA.
        sentence: what ends when, and why it was not replaced.
    """

    kind: Kind
    instance: InstanceGuid | None
    not_after: datetime
    sentence: str


@dataclass(frozen=True, slots=True)
class Own:
    """A certificate that does not belong to an instance.

    Attributes:
        window: returns when its life begins and ends.
        lead: returns, for the length of its life, how much of it has to be left; a quarter by
            default.
    """

    kind: Kind
    subject: str
    window: Callable[[], tuple[datetime, datetime]]
    advice: str
    lead: Callable[[timedelta], timedelta] = lambda life: life * ALARM_FRACTION


def ca_lead(lifetime: timedelta) -> Callable[[timedelta], timedelta]:
    """Return how much of a CA's life has to be left, given the lifetime of what it signs."""
    return lambda life: max(2 * lifetime, min(life * ALARM_FRACTION, CA_LEAD))


class Expiry:
    """Looks at every certificate in use.

    Attributes:
        alarms: the alarms of the last look at all certificates.
    """

    def __init__(
        self,
        state: Callable[[], State],
        nodes: Nodes,
        holdings: Holdings,
        custody: Custody,
        lifetime: timedelta,
        clock: Clock,
    ) -> None:
        """Look at what these know; ``lifetime`` is that of new certificates."""
        self._state = state
        self._nodes = nodes
        self._holdings = holdings
        self._custody = custody
        self._lifetime = lifetime
        self._clock = clock
        self._own: list[Own] = []
        self._log = structlog.get_logger(__name__)
        self.alarms: tuple[Alarm, ...] = ()

    def watch(self, own: Own) -> None:
        """Also look at this certificate, which does not belong to an instance."""
        self._own.append(own)

    def of_own(self) -> Iterator[Alarm]:
        """Yield the alarms of certificates that do not belong to an instance."""
        now = self._clock.now()
        for each in self._own:
            begin, end = each.window()
            if end - now < each.lead(end - begin):
                sentence = f"{each.subject} {_ends(end, now)}: {each.advice}"
                yield Alarm(each.kind, None, end, sentence)

    def of(self, instance: Instance) -> Iterator[Alarm]:
        """Yield the alarms of the certificates that an instance uses."""
        if instance.status is InstanceStatus.GONE:
            return
        now = self._clock.now()
        for record in self._holdings.of(instance.guid):
            ends = _ends_soon(record.not_before, record.not_after, now)
            if ends and not is_unused(record, self._nodes):
                yield self._alarm(instance, record.secret, record.not_after, now)
        identity = self._holdings.identity(instance.guid)
        if identity is not None and _ends_soon(identity.not_before, identity.not_after, now):
            yield self._alarm(instance, IDENTITY, identity.not_after, now)

    async def run(self) -> None:
        """Look at everything until cancelled."""
        while True:
            await self.look()
            period = min(LONGEST_PERIOD, self._lifetime / 50)
            await self._clock.sleep(period.total_seconds())

    async def look(self) -> None:
        """Look at everything once; log new alarms and those that are over."""
        found = list(self.of_own())
        for number, instance in enumerate(self._state().all_instances()):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            found += self.of(instance)
        before, self.alarms = self.alarms, tuple(found)
        self._tell(self._log.error, log_events.EXPIRY_ALARMED, _without(self.alarms, before))
        self._tell(self._log.info, log_events.EXPIRY_CLEARED, _without(before, self.alarms))

    def _tell(self, log: Callable[..., None], event: str, alarms: list[Alarm]) -> None:
        by_kind: dict[Kind, list[Alarm]] = defaultdict(list)
        for each in alarms:
            by_kind[each.kind].append(each)
        for kind, of_kind in by_kind.items():
            first = min(of_kind, key=lambda each: each.not_after)
            named = [each.instance for each in of_kind if each.instance is not None][:_NAMED]
            log(
                event,
                kind=kind.value,
                certificates=len(of_kind),
                instances=named,
                not_after=first.not_after,
                reason=first.sentence,
            )

    def _alarm(self, instance: Instance, name: str, end: datetime, now: datetime) -> Alarm:
        if name == IDENTITY:
            kind, why = Kind.IDENTITY, "its sidecar has to renew it"
            if not instance.has_sidecar:
                why = "no sidecar reports that would renew it"
        else:
            kind = Kind.C2C if name == C2C_SECRET else Kind.ID
            why = self._why(instance.guid)
        return Alarm(kind, instance.guid, end, f"{name} {_ends(end, now)}, not renewed: {why}")

    def _why(self, instance: InstanceGuid) -> str:
        if not self._nodes.streams(instance):
            return "it is not connected"
        return self._custody.failure(instance) or "it has not accepted the new one"


def _ends_soon(begin: datetime, end: datetime, now: datetime) -> bool:
    return end - now < (end - begin) * ALARM_FRACTION


def _ends(end: datetime, now: datetime) -> str:
    return f"{'ends' if end > now else 'ended'} at {end:%Y-%m-%dT%H:%M:%SZ}"


def _without(alarms: tuple[Alarm, ...], others: tuple[Alarm, ...]) -> list[Alarm]:
    """Return the alarms about certificates that none of the others is about."""
    known = {(each.kind, each.instance) for each in others}
    return [each for each in alarms if (each.kind, each.instance) not in known]
