"""Identity certificates: issued to proven instances, and replaced before they expire.

The rules of this module:

- A certificate counts until the instance shows a newer one. Before that, the newer certificate may
  never have arrived, and the older one is all that the instance has. After that, a client that
  shows the older one has stolen it, or was restored from a copy.
- The certificate that an older release sent for the ports from 61001 up has the SPIFFE id of its
  instance, and a key that the control plane made and sent. It never counts, as far as there is a
  record of it.
- A stream that was opened with a certificate older than the newest issued one is ended soon, and
  any stream is ended before its certificate expires. Envoy then comes back with the files that its
  sidecar has renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from control_plane.ca import (
    Authority,
    IdentityRequest,
    Leaf,
    Profile,
    PublicKey,
    TrustDomain,
    issue,
)
from control_plane.clock import Clock
from control_plane.model.entities import App, Instance
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.held import names_of
from control_plane.reconciler.certificates.holdings import IDENTITY, MAX_UNSEEN
from control_plane.store.protocol import IssuedRecord

STARTING_SECONDS = 30.0
"""How long an instance may take from its enrolment to its first stream."""

_EARLIER = None
"""Stands for every certificate of an instance that was issued before this process started."""


class Identities:
    """Issues identity certificates, and remembers which certificates of each instance count."""

    def __init__(  # noqa: PLR0913 - what issuing needs, and who is told of what
        self,
        authority: Callable[[], Authority],
        trust_domain: TrustDomain,
        *,
        profile: Profile,
        new_serial: Callable[[], int],
        clock: Clock,
        note: Callable[[IssuedRecord], None] = lambda _: None,
        note_first: Callable[[IssuedRecord], None] = lambda _: None,
        of_ports: Container[int] = frozenset(),
    ) -> None:
        """Start without having issued any certificate.

        Args:
            authority: returns the CA that signs at that moment.
            trust_domain: the trust domain of the identities.
            profile: how long the certificates live.
            new_serial: gives their serial numbers.
            clock: tells when they are issued.
            note: told of each certificate that an instance was given; returns at once.
            note_first: told of the first certificate of an instance, before the instance is
                registered.
            of_ports: the serials of certificates that name an instance but are no identities.
        """
        self._authority = authority
        self._profile = profile
        self._new_serial = new_serial
        self._clock = clock
        self._note = note
        self._note_first = note_first
        self._of_ports = of_ports
        # Serials in the order of issue; the first is the newest that was shown.
        self._counting: dict[InstanceGuid, list[int | None]] = {}
        self._issued_at: dict[InstanceGuid, float] = {}
        self._renewed: list[Callable[[InstanceGuid], None]] = []
        self.trust_domain = trust_domain

    def on_renewal(self, callback: Callable[[InstanceGuid], None]) -> None:
        """Call this function whenever an instance is given a newer certificate."""
        self._renewed.append(callback)

    def issue(self, app: App, instance: Instance, key: PublicKey) -> Leaf:
        """Issue the certificate that proves this instance, for a key that never left the instance.

        The certificate counts once ``given`` is called.

        Raises:
            IssuanceError: the CA cannot issue now.
        """
        request = IdentityRequest(
            trust_domain=self.trust_domain,
            instance_guid=instance.guid,
            app_guid=app.guid,
            org=app.key.org,
            space=app.key.space,
            address=instance.address,
        )
        return issue(
            self._authority(),
            self._profile,
            request,
            key=key,
            now=self._clock.now(),
            serial=self._new_serial(),
        )

    def given(self, instance: InstanceGuid, leaf: Leaf) -> None:
        """Note that an instance is given a certificate; the change that led to it is on disk."""
        counting = self._counting.setdefault(instance, [_EARLIER])
        counting.append(leaf.serial)
        # Certificates older than these never arrived.
        del counting[1:-MAX_UNSEEN]
        self.starts(instance)
        self._note(_record_of(instance, leaf))
        for callback in self._renewed:
            callback(instance)

    def enrols(self, instance: InstanceGuid, leaf: Leaf) -> None:
        """Note that an instance may connect once the transaction that follows has registered it."""
        self.starts(instance)
        self._note_first(_record_of(instance, leaf))

    def starts(self, instance: InstanceGuid) -> None:
        """Note that an instance may connect from now on."""
        self._issued_at[instance] = self._clock.monotonic()

    def shown(self, instance: InstanceGuid, serial: int) -> None:
        """Note that a certificate is in use: those that were issued before it no longer count."""
        counting = self._counting.get(instance, [])
        if serial in counting:
            del counting[: counting.index(serial)]

    def counts(self, instance: InstanceGuid, serial: int) -> bool:
        """Tell whether this is an identity, and no newer certificate of this instance was shown.

        After a restart nothing is known of earlier certificates, so they count until a newer one is
        issued and shown.
        """
        if serial in self._of_ports:
            return False
        counting = self._counting.get(instance, [_EARLIER])
        return serial in counting or _EARLIER in counting

    def is_superseded(self, instance: InstanceGuid, serial: int) -> bool:
        """Tell whether a newer certificate than this one was issued to an instance."""
        counting = self._counting.get(instance)
        return counting is not None and counting[-1] != serial

    def is_starting(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance got its certificate so recently that it may yet connect."""
        at = self._issued_at.get(instance)
        return at is not None and self._clock.monotonic() - at < STARTING_SECONDS

    def connected(self, instance: InstanceGuid) -> None:
        """Note that an instance opened a stream; from now on streams tell whether it is there."""
        self._issued_at.pop(instance, None)

    def left(self, instance: InstanceGuid) -> None:
        """Note that an instance announced that it leaves, so it is not about to connect."""
        self._issued_at.pop(instance, None)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed, or was not registered after all."""
        self._counting.pop(instance, None)
        self._issued_at.pop(instance, None)


def _record_of(instance: InstanceGuid, leaf: Leaf) -> IssuedRecord:
    return IssuedRecord(
        instance,
        IDENTITY,
        "",
        leaf.serial,
        names_of(leaf.san),
        leaf.not_before,
        leaf.not_after,
        leaf.issuer_fingerprint,
    )
