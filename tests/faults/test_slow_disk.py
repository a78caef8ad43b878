"""A CA is rotated on a disk that takes its time: nobody else notices, and nothing is half done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.ca import Stage
from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.store.sqlite import SqliteStore
from tests.security.test_ca_rotation import operator
from tests.security.world import bystander, control_plane, refused, told
from tests.sidecar.platform import Platform
from tests.slow_disk import Disk, busy
from tests.waiting import eventually


def stage(cf: Platform) -> Stage:
    """Return how far the rotation is."""
    return cf.running.core.rotation.rotation.stage


async def test_everything_goes_on_while_a_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of the step before it is on disk, and the next step waits until then."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there, operator(cf) as op:
        async with busy(Disk.of(monkeypatch), op.prepare()) as preparing:
            second = asyncio.ensure_future(refused(op.prepare()))
            await there.rotates()
            assert not preparing.done()
            assert not second.done()
            assert stage(cf) is Stage.STEADY
        await preparing
        assert stage(cf) is Stage.PREPARED
        assert "is prepared: one rotation at a time" in (await second)[1]


async def test_a_step_whose_caller_leaves_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What will be on the disk is what counts, and the log says so."""
    async with control_plane(tmp_path) as cf:
        rotation = cf.running.core.rotation
        with capture_logs() as lines:
            async with busy(Disk.of(monkeypatch), rotation.prepare()) as preparing:
                preparing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await preparing

        assert stage(cf) is Stage.PREPARED
        assert len(told(lines, log_events.CA_PREPARED)) == 1


async def test_who_stops_while_a_step_is_written_keeps_the_directory_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another control plane that starts there would read what is about to change."""
    close, found = SqliteStore.close, []

    async def closing(store: SqliteStore) -> None:
        found.append((cf.settings.data_dir / ROTATION_FILE).exists())
        await close(store)

    def has_stopped() -> bool:
        return "records" not in {each.get_name() for each in asyncio.all_tasks()}

    monkeypatch.setattr(SqliteStore, "close", closing)
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        async with busy(Disk.of(monkeypatch), op.prepare()) as preparing:
            stopping = asyncio.ensure_future(cf.stop())
            await refused(preparing)
            await eventually(has_stopped, "everything else has stopped")
        await stopping

    assert found == [True]
