"""The ledger: where each certificate is, and since when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import (
    CertificateState,
    Entry,
    Ledger,
    is_new,
    is_renewal,
)
from control_plane.store.protocol import IssuedRecord
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET

B0, B1 = InstanceGuid("b0"), InstanceGuid("b1")
DAY = timedelta(days=1)
FIRST = IssuedRecord(B0, C2C_SECRET, "v1", 0xA1, ("b0", "x"), NOON, NOON + DAY, "sha256:1")


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    """Return a ledger with one certificate."""
    ledger = Ledger(clock)
    ledger.issued(FIRST)
    return ledger


def entry(ledger: Ledger) -> Entry:
    """Return the one entry that a test is about."""
    found = ledger.get(B0, C2C_SECRET)
    assert found is not None
    return found


async def test_a_certificate_goes_its_way(ledger: Ledger, clock: ManualClock) -> None:
    """Issued, ACKed, served: each with the moment at which it came so far."""
    await clock.advance(1)
    ledger.move(entry(ledger), CertificateState.ACKED)
    await clock.advance(1)
    ledger.move(entry(ledger), CertificateState.SERVED)

    assert (entry(ledger).state, entry(ledger).since) == (
        CertificateState.SERVED,
        NOON + timedelta(seconds=2),
    )


async def test_a_better_reason_is_no_news(ledger: Ledger, clock: ManualClock) -> None:
    """The state is as old as it was, and nobody is told twice."""
    told: list[Entry] = []
    ledger.observe(lambda entry, _: told.append(entry))
    for reason in ("refused", "refused", "timed out"):
        await clock.advance(1)
        ledger.move(entry(ledger), CertificateState.NOT_SERVED, reason)

    assert entry(ledger).reason == "timed out"
    assert [each.since for each in (*told, entry(ledger))] == [NOON + timedelta(seconds=1)] * 2


def test_a_renewal_says_the_same_as_before(ledger: Ledger) -> None:
    """Nothing but a new serial; other names are no renewal, and a move is nothing new."""
    told: list[tuple[bool, bool]] = []
    ledger.observe(lambda now, old: told.append((is_new(now, old), is_renewal(now, old))))
    ledger.issued(replace(FIRST, serial=0xA2, version="v2"))
    ledger.issued(replace(FIRST, serial=0xA3, version="v3", names=("b0",)))
    ledger.move(entry(ledger), CertificateState.ACKED)
    ledger.issued(replace(FIRST, instance_guid=B1))

    assert told == [(True, True), (True, False), (False, False), (True, False)]


def test_what_was_replaced_moves_no_more(ledger: Ledger) -> None:
    """News of a certificate that is not the newest any more change nothing."""
    old = entry(ledger)
    ledger.issued(replace(FIRST, serial=0xA2, version="v2"))
    ledger.move(old, CertificateState.SERVED)

    assert entry(ledger).state is CertificateState.ISSUED


def test_what_was_removed_moves_no_more(ledger: Ledger) -> None:
    """Whoever looked at it meanwhile may say so, and nothing comes back by it."""
    removed = entry(ledger)
    ledger.forget(B0)

    ledger.move(removed, CertificateState.SERVED)

    assert ledger.get(B0, C2C_SECRET) is None


def test_secrets_are_apart(ledger: Ledger) -> None:
    """An instance has one certificate for each secret, and loses all of them when it is removed."""
    ledger.issued(replace(FIRST, secret=ID_SECRET, not_after=NOON + 2 * DAY))
    ledger.issued(replace(FIRST, instance_guid=B1, not_after=NOON + 3 * DAY))

    assert [each.record.secret for each in ledger.of(B0)] == [C2C_SECRET, ID_SECRET]
    ledger.forget(B0)
    ledger.forget(B0)
    assert ledger.of(B0) == ()
    assert len(ledger.of(B1)) == 1


def test_after_a_restart_nobody_is_told(clock: ManualClock) -> None:
    """What an earlier run issued is there, and whether anybody has it is not known."""
    ledger = Ledger(clock, [FIRST])

    assert entry(ledger).state is CertificateState.ISSUED
