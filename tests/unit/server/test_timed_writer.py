"""The store as it is measured: what was not written is counted, whosever fault it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_plane.errors import StorageError
from control_plane.model.apps import create_app
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.server.metrics.instruments import Metrics
from control_plane.server.metrics.observers import TimedWriter
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore

CHANGE = create_app(State(), "guid-a", AppSpec("a")).change
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RECORD = IssuedRecord(
    InstanceGuid("a0"), "secret", "v", 1, (), NOON, NOON + timedelta(days=1), "sha256:0"
)


def counted(metrics: Metrics) -> tuple[float | None, float | None]:
    """Return how many transactions were measured, and how many were not written."""
    names = ("c2c_store_commit_duration_seconds_count", "c2c_store_failures_total")
    measured, failed = (metrics.registry.get_sample_value(name) for name in names)
    return measured, failed


@pytest.mark.parametrize("error", [StorageError("disk full"), TypeError("a defect")], ids=repr)
async def test_what_was_not_written_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A change and a record of a certificate alike, and neither once it works again."""
    metrics = Metrics()
    store = await SqliteStore.open(tmp_path / "data" / "c2c.db")
    timed = TimedWriter(store, metrics)

    async def failing(_store: SqliteStore, *_what: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", failing)
        patch.setattr(SqliteStore, "record_issued", failing)
        with pytest.raises(type(error)):
            await timed.commit(CHANGE)
        assert counted(metrics) == (1, 1)
        with pytest.raises(type(error)):
            await timed.record_issued([RECORD])
        assert counted(metrics) == (1, 2)

    await timed.commit(CHANGE)
    await timed.record_issued([RECORD])
    await store.close()
    assert counted(metrics) == (2, 2)
