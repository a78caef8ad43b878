"""Which instances are ready for the next step of a CA rotation, and why the others are not.

The rule of this module: it looks once when it is asked, and remembers nothing, so its answer is
true at that moment, even after a restart. A caller that only shows the result lets other tasks have
their turn during the look at a fleet; a step is decided on in one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from control_plane.ca import Authority, InstanceIdentity
from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import Instance
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings, is_unused
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.reconciler.pace import IDENTITIES_PER_SECOND
from control_plane.reconciler.served.attestation import Attestation
from control_plane.server.turns import unhurried

AT_ONCE = 200
"""How many instances are looked at before other tasks get a turn; one takes some 10
microseconds."""

_SETTLING_SECONDS = 30.0
"""How long it may take, after the wait for its turn, until a sidecar's new identity has been
seen."""

_GONE_FOR_GOOD = "remove it if it will not be back"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An instance that is not ready, and why."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """How many instances the next step depends on, and which of them are not ready for it.

    Attributes:
        state: the State that has these instances and their apps.
        done: what the ready instances have done, for sentences.
    """

    state: State
    done: str
    wanted: int
    waiting: tuple[Waiting, ...]

    @property
    def ready(self) -> int:
        """How many instances are ready."""
        return self.wanted - len(self.waiting)


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the instances that the next step depends on.

    Attributes:
        state: the State that has these instances and their apps.
        instances: all of these instances.
        why_not: returns why an instance is not ready at that moment, or "".
        done: what the ready instances have done, for sentences.
    """

    state: State
    instances: Sequence[Instance]
    why_not: Callable[[Instance], str]
    done: str

    def at_once(self) -> Readiness:
        """Return the readiness at this moment."""
        return self._readiness([self.why_not(each) for each in self.instances])

    async def in_turns(self) -> Readiness:
        """Return the readiness, and let other tasks have their turn meanwhile."""
        looked_at = unhurried(self.instances, AT_ONCE)
        return self._readiness([self.why_not(each) async for each in looked_at])

    def _readiness(self, reasons: Sequence[str]) -> Readiness:
        found = zip(self.instances, reasons, strict=True)
        waiting = tuple(Waiting(each, why) for each, why in found if why)
        return Readiness(self.state, self.done, len(self.instances), waiting)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A CA that is to leave.

    Attributes:
        called: the name for it in sentences.
        since: when the instances began to get certificates of another CA.
    """

    authority: Authority
    called: str
    since: datetime


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """Looks at the instances."""

    state: Callable[[], State]
    nodes: Nodes
    attestation: Attestation
    ledger: Ledger
    holdings: Holdings
    clock: Clock

    def trusting(self, authority: Authority) -> Look:
        """Look which live instances trust a CA, as reported by their sidecars."""
        state = self.state()
        live = [each for each in state.all_instances() if self._is_live(each)]
        done = "sidecars have the new trust bundle"
        return Look(state, live, lambda each: self._distrust(each, authority), done)

    def leaving(self, leaving: Leaving) -> Look:
        """Look which of the instances that have certificates may still use one of a CA."""
        state = self.state()
        have_any = [each for each in state.all_instances() if self.holdings.has_any(each.guid)]
        done = "instances have left it"
        return Look(state, have_any, lambda each: self._use(each, leaving), done)

    async def live_certificates(self, authority: Authority) -> int:
        """Count the certificates of a CA that may be in use, while other tasks have their turn."""
        looked_at = unhurried(self.state().all_instances(), AT_ONCE)
        return sum([len(set(self._serials(each.guid, authority))) async for each in looked_at])

    def _is_live(self, instance: Instance) -> bool:
        return instance.status.is_there or bool(self.nodes.streams(instance.guid))

    def _distrust(self, instance: Instance, authority: Authority) -> str:
        """Return why an instance is not known to trust a CA, or ""."""
        trusted = self.attestation.trusted(instance.guid)
        if not self.attestation.witnessed(instance.guid):
            return "no sidecar reports for it"
        if not trusted:
            return "its sidecar does not tell whom it trusts: update it"
        if not trusted >= authority.root_fingerprints:
            return "its sidecar has not taken the new trust bundle yet"
        return ""

    def _use(self, instance: Instance, leaving: Leaving) -> str:
        """Return which certificate of a CA an instance may be using, or ""."""
        now, guid = self.clock.now(), instance.guid
        identity = self._identity(guid, leaving.authority)
        if identity is not None:
            return self._identity_use(guid, identity.not_after, leaving)
        is_away = not self.nodes.streams(guid)
        for record in self.holdings.possible(guid):
            if record.not_after <= now or is_unused(record, self.nodes):
                continue
            what = "identity" if record.secret == IDENTITY else record.secret
            signed = f"its {what} is still signed by {leaving.called}"
            if record.issuer == leaving.authority.fingerprint:
                if is_away:
                    until = f"until {_moment(record.not_after)}"
                    return f"it is not connected, and {signed}, {until}: {_GONE_FOR_GOOD}"
                return f"{signed}{self._outlook(record.not_after, leaving)}"
            if self.holdings.is_doubtful(record):
                until = f"of {leaving.called} until {_moment(record.not_after)}"
                if is_away:
                    return (
                        "it was not seen since the control plane started, and may have "
                        f"certificates {until}: {_GONE_FOR_GOOD}"
                    )
                return f"it has not accepted its new {what} yet, and may serve one {until}"
        newest = self.ledger.get(guid, C2C_SECRET)
        if newest is not None and newest.state is CertificateState.NOT_SERVED:
            return f"it does not serve its new certificate: {newest.reason}"
        return ""

    def _identity_use(self, guid: InstanceGuid, ends: datetime, leaving: Leaving) -> str:
        signed = f"its identity is still signed by {leaving.called}"
        if not self.attestation.witnessed(guid):
            return f"{signed}, until {_moment(ends)}: no sidecar reports that would renew it"
        return f"{signed}{self._outlook(ends, leaving)}"

    def _outlook(self, ends: datetime, leaving: Leaving) -> str:
        """Return how soon a certificate is replaced that its instance renews by itself."""
        turns = len(self.state().instances) / IDENTITIES_PER_SECOND
        due = timedelta(seconds=turns + self.attestation.report_seconds + _SETTLING_SECONDS)
        if self.clock.now() >= leaving.since + due:
            return f", until {_moment(ends)}, and should have been renewed by now"
        minutes = ceil(due / timedelta(minutes=1))
        return f"; it is renewed within {'a minute' if minutes == 1 else f'{minutes} minutes'}"

    def _serials(self, instance: InstanceGuid, authority: Authority) -> Iterator[int]:
        now = self.clock.now()
        for record in self.holdings.possible(instance):
            if record.issuer == authority.fingerprint and record.not_after > now:
                yield record.serial
        identity = self._identity(instance, authority)
        if identity is not None:
            yield identity.serial

    def _identity(self, instance: InstanceGuid, authority: Authority) -> InstanceIdentity | None:
        """Return the identity that an instance uses, if a CA signed it and it has not expired."""
        identity = self.holdings.identity(instance)
        if identity is None or identity.issuer != authority.subject:
            return None
        return identity if identity.not_after > self.clock.now() else None


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
