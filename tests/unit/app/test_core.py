"""The object graph as it is put together, without ports: whoever has to be told is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs

from control_plane.app.core import Core, build
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState
from control_plane.settings import Settings
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore
from tests.unit.reconciler.clocks import NOON, ManualClock

B0 = InstanceGuid("b0")
RECORD = IssuedRecord(
    B0, "c2c-cert-and-key", "v", 0xA1, ("b0",), NOON, NOON + timedelta(1), "sha256:"
)


@asynccontextmanager
async def built(directory: Path) -> AsyncIterator[Core]:
    """Put a core together over an empty data directory."""
    settings = Settings(data_dir=directory / "data")
    store = await SqliteStore.open(settings.data_dir / "c2c.db")
    try:
        yield await build(settings, ManualClock(), store)
    finally:
        await store.close()


async def test_what_is_not_served_is_in_the_log_though_nobody_watches(tmp_path: Path) -> None:
    """Somebody has to act on it, whether or not anybody watches the feed."""
    async with built(tmp_path) as core:
        ledger = core.observed.ledger
        with capture_logs() as lines:
            ledger.issued(RECORD)
            ledger.move(ledger.of(B0)[0], CertificateState.NOT_SERVED, "refused")

    assert "certificate.not_served" in [line["event"] for line in lines]
