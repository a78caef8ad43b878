"""What the log has of certificates that are served, and of those that are not."""

from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.server.observability.certificate_log import CertificateLog
from control_plane.store.protocol import IssuedRecord
from tests.unit.reconciler.clocks import NOON, ManualClock

RECORD = IssuedRecord(
    InstanceGuid("b0"), "c2c-cert-and-key", "v", 0xA1, ("b0",), NOON, NOON + timedelta(1), "sha256:"
)
FIELDS = {"instance": "b0", "secret": "c2c-cert-and-key", "serial": "a1"}


def move(*moves: tuple[CertificateState, str]) -> None:
    """Have a certificate issued and moved on, with reasons, while its moves are logged."""
    ledger = Ledger(ManualClock())
    ledger.observe(CertificateLog().certified)
    ledger.issued(RECORD)
    (entry,) = ledger.of(RECORD.instance_guid)
    for state, reason in moves:
        ledger.move(entry, state, reason)


def test_a_certificate_that_is_not_served_is_a_warning_until_it_is() -> None:
    """Whoever saw the warning sees its end; that it was issued and ACKed others log."""
    with capture_logs() as lines:
        move(
            (CertificateState.ACKED, ""),
            (CertificateState.NOT_SERVED, "ref\nused"),
            (CertificateState.SERVED, ""),
        )

    assert lines == [
        {
            "event": "certificate.not_served",
            "log_level": "warning",
            "reason": r"ref\nused",
            **FIELDS,
        },
        {"event": "certificate.served", "log_level": "info", **FIELDS},
    ]


def test_a_certificate_that_is_served_at_once_is_for_debugging() -> None:
    """The line of the change says it of all instances, and of a big app that is a thousand."""
    with capture_logs() as lines:
        move((CertificateState.SERVED, ""))

    assert [(each["event"], each["log_level"]) for each in lines] == [
        ("certificate.served", "debug")
    ]
