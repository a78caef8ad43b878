"""What the log has of certificates that are served, and of those that are not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from structlog.testing import capture_logs

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.server.access.refusals import LINES_PER_MINUTE, RefusalTally
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
    ledger.observe(CertificateLog(RefusalTally(ManualClock())).certified)
    ledger.issued(RECORD)
    (entry,) = ledger.of(RECORD.instance_guid)
    for state, reason in moves:
        ledger.move(entry, state, reason)


def test_a_certificate_that_is_not_served_is_a_warning_until_it_is() -> None:
    """The log has the warning and its end; that it was issued and ACKed is logged elsewhere."""
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
    """One line tells of a change for all instances; one for each would be a thousand."""
    with capture_logs() as lines:
        move((CertificateState.SERVED, ""))

    assert [(each["event"], each["log_level"]) for each in lines] == [
        ("certificate.served", "debug")
    ]


async def test_an_instance_that_says_something_else_each_time_does_not_fill_the_log() -> None:
    """What a sidecar says it sees fills no disk, and takes no line from others."""
    tally, clock = RefusalTally(ManualClock()), ManualClock()
    ledger = Ledger(clock)
    ledger.observe(CertificateLog(tally).certified)
    ledger.issued(RECORD)
    telling = asyncio.create_task(tally.run())
    with capture_logs() as lines:
        for number in range(3 * LINES_PER_MINUTE):
            (entry,) = ledger.of(RECORD.instance_guid)
            is_served = number % 2
            ledger.move(
                entry, CertificateState.SERVED if is_served else CertificateState.NOT_SERVED
            )
        await asyncio.sleep(0)
        telling.cancel()
        await asyncio.wait([telling])

    (*told, limited) = lines
    assert len(told) == LINES_PER_MINUTE
    assert limited["event"] == "audit.certificates_limited"
    assert (limited["count"], limited["by"]) == (2 * LINES_PER_MINUTE, ["b0"])
