"""The control plane's own certificate: when it is replaced, and what happens if it cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

from control_plane.ca import Authority, Profile, new_key_pair
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN
from control_plane.server.credentials import ServerCertificate
from tests.unit.reconciler.clocks import ManualClock
from tests.unit.reconciler.worlds import Serials, authority

DAY = timedelta(days=1)


@dataclass(slots=True)
class Shown:
    """A certificate of one day, and the CA and the clock by which it is replaced."""

    clock: ManualClock = field(default_factory=ManualClock)
    serials: Serials = field(default_factory=Serials)
    signer: Authority = field(default_factory=authority)

    def certificate(self) -> ServerCertificate:
        """Issue it."""
        return ServerCertificate(
            lambda: self.signer,
            DEFAULT_TRUST_DOMAIN,
            ("127.0.0.1",),
            profile=Profile(lifetime=DAY),
            new_key=new_key_pair,
            new_serial=self.serials,
            clock=self.clock,
        )


def test_it_is_replaced_at_half_of_its_life() -> None:
    """A handshake after that moment shows the next; one before does not."""
    around = Shown()
    certificate = around.certificate()
    first = certificate.current()

    around.clock.set(0.4 * DAY)
    assert certificate.current() is first
    around.clock.set(0.2 * DAY)
    assert certificate.current().not_after > first.not_after


def test_a_clock_that_is_set_back_replaces_it() -> None:
    """One that begins in the future would be refused by whoever connects."""
    around = Shown()
    around.clock.set(DAY)
    certificate = around.certificate()
    first = certificate.current()

    around.clock.set(-DAY)

    assert first.not_before > around.clock.now()
    assert certificate.current().not_before <= around.clock.now()


async def test_a_ca_that_cannot_issue_is_asked_now_and_then() -> None:
    """The old one is shown, and a storm of handshakes makes no storm of attempts."""
    around = Shown()
    certificate = around.certificate()
    first = certificate.current()
    around.clock.set(0.6 * DAY)
    around.serials.are_bad = True
    assert certificate.current() is first

    around.serials.are_bad = False
    assert certificate.current() is first
    await around.clock.advance(5)
    assert certificate.current().not_after > first.not_after


def test_one_that_became_too_large_is_shown_on() -> None:
    """With the second chain of a rotation it is more than TLS clients take: that ends nothing."""
    around = Shown()
    certificate = around.certificate()
    first = certificate.current()

    around.signer = replace(authority(), detour=authority().chain * 100)

    assert certificate.current() is first


def test_another_ca_replaces_it_at_once() -> None:
    """Whoever trusts only the new CA has to believe it."""
    around = Shown()
    certificate = around.certificate()
    first = certificate.current()

    around.signer = authority()

    assert certificate.current().issuer_fingerprint == around.signer.fingerprint
    assert certificate.current().issuer_fingerprint != first.issuer_fingerprint
