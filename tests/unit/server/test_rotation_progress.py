"""Who is waited for when a CA is to leave: whoever may use what it signed, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.ca import Authority, InstanceIdentity, create_authority, new_key_pair
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.names import AppGuid, InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.attestation import REPORT_SECONDS, Attestation
from control_plane.reconciler.holdings import IDENTITY, Holdings
from control_plane.reconciler.ledger import CertificateState, Ledger
from control_plane.server.rotation_progress import RotationProgress
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import C2C_SECRET

B0 = InstanceGuid("b0")
DAY = timedelta(days=1)


def authority(name: str) -> Authority:
    """Return a CA."""
    return create_authority(name, now=NOON, lifetime=30 * DAY, key=new_key_pair(), serial=1)


OLD, NEW = authority("old"), authority("new")


def record(by: Authority, *, secret: str = C2C_SECRET, ends: timedelta = DAY) -> IssuedRecord:
    """Return the record of a certificate of b0."""
    return IssuedRecord(B0, secret, "v", 7, ("b0",), NOON, NOON + ends, by.fingerprint)


class World:
    """App b with two instances, b0 and b1; nobody is connected."""

    def __init__(self, *records: IssuedRecord) -> None:
        """Start as after a restart with these records."""
        state = register(world("b"), "b0", B, "10.0.1.1")
        self.state = register(state, "b1", B, "10.0.1.2")
        self.clock = ManualClock()
        self.attestation = Attestation(self.clock)
        self.ledger = Ledger(self.clock, (each for each in records if each.secret != IDENTITY))
        self.holdings = Holdings(self.ledger, records)
        self.progress = RotationProgress(
            lambda: self.state,
            Nodes(),
            self.attestation,
            self.ledger,
            self.holdings,
            self.clock,
        )

    def reasons(self) -> list[str]:
        """Return why the old CA cannot leave."""
        return [each.reason for each in self.progress.leaving(OLD).waiting]

    def distrust(self) -> list[str]:
        """Return who keeps the new CA from signing, and why."""
        return [each.reason for each in self.progress.trusting(NEW).waiting]


def test_who_never_had_a_certificate_is_not_waited_for() -> None:
    """Instances that a platform registered and that never connected have nothing to lose."""
    readiness = World().progress.leaving(OLD)

    assert (readiness.ready, readiness.wanted, readiness.waiting) == (0, 0, ())


@pytest.mark.parametrize("secret", [C2C_SECRET, IDENTITY])
def test_who_is_away_is_waited_for_until_the_certificate_ends(secret: str) -> None:
    """An Envoy that is cut off from here serves on, and its sidecar has to come back."""
    what = "identity" if secret == IDENTITY else C2C_SECRET
    assert World(record(OLD, secret=secret)).reasons() == [
        f"it is not connected, and its {what} is of the CA, until 2026-01-02T12:00:00Z"
    ]
    assert World(record(OLD, secret=secret, ends=timedelta())).reasons() == []


def test_after_a_restart_the_newest_record_does_not_say_what_is_used() -> None:
    """It may never have arrived; whoever is seen again is waited for no more."""
    here = World(record(NEW, secret=IDENTITY))
    (reason,) = here.reasons()
    assert reason.startswith("it was not seen since the control plane started, and may have")

    here.holdings.identity_seen(InstanceIdentity(AppGuid("b"), B0, NOON + DAY, 7, "CN=new"))
    assert here.reasons() == []
    here.holdings.identity_seen(InstanceIdentity(AppGuid("b"), B0, NOON + DAY, 6, "CN=old"))
    assert here.reasons() == ["its identity is of the CA, until 2026-01-02T12:00:00Z"]


def test_who_does_not_serve_what_it_accepted_is_waited_for() -> None:
    """What it serves instead may be of the old CA."""
    here = World()
    here.ledger.issued(record(NEW))
    for state in (CertificateState.ACKED, CertificateState.NOT_SERVED):
        entry = here.ledger.get(B0, C2C_SECRET)
        assert entry is not None
        here.ledger.move(entry, state, "port 61443 shows serial 1")

    assert here.reasons() == ["it does not serve its new certificate: port 61443 shows serial 1"]


def test_a_certificate_counts_once() -> None:
    """However many know of it."""
    here = World(record(OLD), replace(record(OLD, secret=IDENTITY), serial=8))
    here.ledger.issued(replace(record(NEW), serial=9))

    assert here.progress.live_certificates(OLD) == 2
    assert here.progress.live_certificates(NEW) == 1


async def test_live_instances_have_to_say_whom_they_trust() -> None:
    """By a report that counts; those that are gone or never came are not asked."""
    here = World()
    assert here.progress.trusting(NEW).wanted == 0

    here.state = set_status(here.state, B0, InstanceStatus.READY).state
    assert here.distrust() == ["no sidecar reports for it"]
    here.attestation.report(B0, 7, ())
    assert here.distrust() == ["its sidecar does not tell whom it trusts: update it"]
    here.attestation.report(B0, 7, (), trusted=OLD.root_fingerprints)
    assert here.distrust() == ["its sidecar has not taken the new trust bundle yet"]
    here.attestation.report(B0, 7, (), trusted=OLD.root_fingerprints | NEW.root_fingerprints)
    assert here.distrust() == []

    await here.clock.advance(10 * max(REPORT_SECONDS))
    assert here.distrust() == ["no sidecar reports for it"]
