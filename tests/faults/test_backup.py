"""Backup and restore of the data directory, as docs/reliability.md tells operators to do it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from control_plane.app.authority import CA_FILE
from control_plane.app.control_plane import DATABASE_FILE
from tests.faults.test_restarts import scene, updates


def back_up(data: Path, to: Path) -> None:
    """Copy what a control plane that runs has on disk: the database by SQLite's own backup."""
    to.mkdir(mode=0o700)
    shutil.copy2(data / CA_FILE, to / CA_FILE)
    with (
        contextlib.closing(sqlite3.connect(data / DATABASE_FILE)) as source,
        contextlib.closing(sqlite3.connect(to / DATABASE_FILE)) as target,
    ):
        source.backup(target)
    (to / DATABASE_FILE).chmod(0o600)


async def test_a_backup_of_a_running_control_plane_brings_it_back(tmp_path: Path) -> None:
    """With directory and process gone, a backup is all that is needed; apps notice nothing.

    What was changed after the backup is lost, and the certificates follow the State that is there.
    """
    async with scene(tmp_path) as here, here.instance():
        data, backup = here.cp.settings.data_dir, tmp_path / "backup"
        back_up(data, backup)
        assert await here.cp.map_route("app-b", "later")
        later = await here.serial()

        await here.cp.kill()
        shutil.rmtree(data)
        assert (await here.caller.call(here.address)).status == 200
        shutil.copytree(backup, data)
        data.chmod(0o700)
        await here.cp.start()
        await here.cp.synced()

        assert (await here.caller.call(here.address)).status == 200
        assert await here.serial() != later
        assert await here.cp.map_route("app-b", "later")


async def test_a_copy_of_a_stopped_control_plane_is_the_same(tmp_path: Path) -> None:
    """Moved to another disk while it is stopped, it goes on, and Envoy is told nothing."""
    async with scene(tmp_path) as here, here.instance() as instance:
        serial = await here.serial()
        await here.cp.recorded(serial)
        before = await updates(instance.envoy)
        data, moved = here.cp.settings.data_dir, tmp_path / "moved"

        await here.cp.stop()
        shutil.copytree(data, moved, ignore=shutil.ignore_patterns("*.sock"))
        shutil.rmtree(data)
        moved.rename(data)
        await here.cp.start()
        await here.cp.synced()

        assert await here.serial() == serial
        assert await updates(instance.envoy) == before
