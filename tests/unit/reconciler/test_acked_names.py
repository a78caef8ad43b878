"""What is remembered of the names that an instance's certificate has for sure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.acked_names import AckedNames
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.store.protocol import IssuedRecord
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET

B0 = InstanceGuid("b0")


class Remembered:
    """A ledger, and what the disk has of it.

    Attributes:
        notes: every record that was to be remembered, in order.
    """

    def __init__(self, records: Iterable[IssuedRecord] = ()) -> None:
        """Start with these records on the disk."""
        self.ledger = Ledger(ManualClock(), records)
        self.notes: list[IssuedRecord] = []
        self.acked = AckedNames(self.ledger, records, self.notes.append)
        self._serial = 0

    def issue(self, *names: str, secret: str = C2C_SECRET) -> IssuedRecord:
        """Issue a certificate; return what was remembered of it."""
        self._serial += 1
        life = (NOON, NOON + timedelta(days=1))
        self.ledger.issued(IssuedRecord(B0, secret, "v", self._serial, names, *life, "ca"))
        return self.notes[-1]

    def move(
        self, state: CertificateState = CertificateState.ACKED, secret: str = C2C_SECRET
    ) -> None:
        """Say where the newest certificate is."""
        entry = self.ledger.get(B0, secret)
        assert entry is not None
        self.ledger.move(entry, state)


def test_a_name_is_sure_once_a_certificate_with_it_was_acked() -> None:
    """Until then the record says that it is not; the ACK has it written once more."""
    disk = Remembered()
    issued = disk.issue("b0", "x")
    assert (issued.names, issued.unacked, issued.acked) == (("b0", "x"), ("b0", "x"), ())

    disk.move()

    assert disk.notes == [issued, replace(issued, unacked=())]
    assert disk.issue("b0", "x", "y").unacked == ("y",)
    assert disk.notes[-1].acked == ("b0", "x")


def test_a_renewal_is_written_once() -> None:
    """It has the names of the one before, so whichever of the two the instance has will do."""
    disk = Remembered()
    disk.issue("b0", "x")
    disk.move()
    disk.notes.clear()

    renewed = disk.issue("b0", "x")
    disk.move()
    disk.move(CertificateState.SERVED)

    assert disk.notes == [renewed]
    assert renewed.unacked == ()


def test_a_name_that_was_gone_for_a_while_is_not_sure() -> None:
    """The ACK of the certificate without it may have been lost."""
    disk = Remembered()
    disk.issue("b0", "x")
    disk.move()
    disk.issue("b0")

    assert disk.issue("b0", "x").unacked == ("x",)


def test_a_client_that_lost_its_certificate_has_no_more_names_by_it() -> None:
    """Only an ACK makes a name sure."""
    disk = Remembered()
    issued = disk.issue("b0", "x")
    disk.move(CertificateState.ACKED)
    disk.move(CertificateState.ISSUED)

    assert disk.notes == [issued, replace(issued, unacked=())]


def test_it_goes_on_after_a_restart() -> None:
    """A client that comes back with the certificate of the record makes its names sure."""
    before = Remembered()
    unsure = before.issue("b0", "x")
    after = Remembered([unsure])

    after.move()
    assert after.notes == [replace(unsure, unacked=())]
    assert Remembered(after.notes).issue("b0", "x", "y").unacked == ("y",)


def test_other_secrets_have_no_routes() -> None:
    """They are remembered as they are."""
    disk = Remembered()

    other = disk.issue("b0", secret=ID_SECRET)
    disk.move(secret=ID_SECRET)
    assert disk.notes == [other]
    assert other.unacked == ()
    assert disk.issue("b0", "x").unacked == ("b0", "x")

    disk.move()
    after = Remembered([disk.notes[-1], other])
    assert after.issue("b0", "x").unacked == ()


def test_nothing_is_left_of_who_was_removed() -> None:
    """Another instance of that name begins with nothing."""
    disk = Remembered()
    disk.issue("b0", "x")
    disk.move()
    disk.acked.forget(B0)

    assert disk.issue("b0", "x").unacked == ("b0", "x")
