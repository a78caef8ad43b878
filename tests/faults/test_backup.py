"""Backup and restore of the data directory, by the commands that docs/reliability.md tells."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from control_plane.app.control_plane import DATABASE_FILE, ControlPlane
from control_plane.errors import ConfigurationError
from control_plane.settings import Settings, SocketAddress
from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.settings.retired import CA_FILE
from tests.e2e.rotation import cloud, only
from tests.e2e.test_ca_rotation import SECONDS
from tests.faults.test_restarts import scene, updates
from tests.needs import need_command
from tests.waiting import ended

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
(RUNNING,) = re.findall(r"^ {4}\(set -e; umask 077\n(?: {4}.+\n)+", DOCUMENT, re.MULTILINE)
"""What copies the directory of a control plane that runs."""

(STOPPED,) = re.findall(r"`(mkdir backup && cp -a .+)`", DOCUMENT)
"""What copies that of one that does not."""

(RESTORE,) = re.findall(r"^ {4}\(set -e; test .+\n(?: {4}.+\n)+", DOCUMENT, re.MULTILINE)
"""What brings a backup back where the control plane is a service."""


async def typed(commands: str, data: Path) -> int:
    """Do what the document says beside a data directory, and return the exit code."""
    need_command("sqlite3", "sqlite3")
    process = await asyncio.create_subprocess_exec(
        need_command("bash", "bash"),
        *("-c", commands.replace("/var/lib/c2c", str(data))),
        cwd=data.parent,
    )
    return await ended(process, "the commands")


async def back_up(commands: str, data: Path) -> Path:
    """Make a backup as the document says, and return it."""
    assert await typed(commands, data) == 0
    backup = data.parent / "backup"
    assert backup.stat().st_mode & 0o077 == 0
    assert [each for each in backup.iterdir() if each.stat().st_mode & 0o077] == []
    return backup


def restore(backup: Path, data: Path) -> None:
    """Lose the data directory, and put the backup in its place."""
    shutil.rmtree(data)
    backup.rename(data)


async def test_a_backup_of_a_running_control_plane_brings_it_back(tmp_path: Path) -> None:
    """With directory and process gone, a backup is all that is needed; apps notice nothing.

    What was changed after the backup is lost, and the certificates follow the State that is there.
    """
    async with scene(tmp_path) as here, here.instance():
        data = here.cp.settings.data_dir
        backup = await back_up(RUNNING, data)
        assert {each.name for each in backup.iterdir()} == {CA_FILE, DATABASE_FILE}
        assert await here.cp.map_route("app-b", "later")
        later = await here.serial()

        await here.cp.kill()
        restore(backup, data)
        assert (await here.caller.call(here.address)).status == 200
        await here.cp.start()
        await here.cp.synced()

        assert (await here.caller.call(here.address)).status == 200
        assert await here.serial() != later
        assert await here.cp.map_route("app-b", "later")


async def test_a_backup_amid_a_ca_rotation_has_both_cas(tmp_path: Path) -> None:
    """The rotation goes on where it was, with the same new CA; who knows either can call."""
    async with cloud(tmp_path) as c, c.instance() as one:
        await c.until_issued_by((await c.authorities())["active"]["fingerprint"], 1)
        old = await c.bundle()
        await c.did("ca", "prepare", "--wait", "--timeout", SECONDS)
        before, both = await c.authorities(), await c.bundle()
        backup = await back_up(RUNNING, c.server.settings.data_dir)
        assert {each.name for each in backup.iterdir()} >= {ROTATION_FILE, DATABASE_FILE}

        await c.server.kill()
        restore(backup, c.server.settings.data_dir)
        await c.server.start()
        assert await c.bundle() == both
        await c.did("ca", "activate", "--wait", "--timeout", SECONDS)

        active = (await c.authorities())["active"]["fingerprint"]
        assert active in {each["fingerprint"] for each in before.values()}
        assert active != before["active"]["fingerprint"]
        await c.until_issued_by(active, 1)
        for roots in (old, only(both, without=old)):
            await c.call(one, roots)


async def test_a_backup_is_never_mixed_with_an_older_one(tmp_path: Path) -> None:
    """A rotation's file that is left from the older one would count, and a retired CA be back."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    backup.mkdir()
    (backup / ROTATION_FILE).write_text("both CAs")
    async with ControlPlane(settings(data)):
        for commands in (RUNNING, STOPPED):
            assert await typed(commands, data) != 0
    assert [each.name for each in backup.iterdir()] == [ROTATION_FILE]


@pytest.mark.parametrize(
    ("has_database", "is_new"),
    [(True, False), (True, True), (False, False)],
    ids=["a backup", "on a new machine", "no backup"],
)
async def test_a_service_without_a_backup_keeps_what_it_has(
    tmp_path: Path, *, has_database: bool, is_new: bool
) -> None:
    """The commands may be typed in another directory than that of the backup.

    Where there is a backup they bring it back, also where there was no control plane before.
    """
    data, backup = tmp_path / "data", tmp_path / "backup"
    for each in (data, backup):
        each.mkdir()
        (each / CA_FILE).write_text(each.name)
        (each / DATABASE_FILE).write_text(each.name)
    if not has_database:
        (backup / DATABASE_FILE).unlink()
    if is_new:
        shutil.rmtree(data)
    as_root = RESTORE.replace("--owner c2c --group c2c ", "")

    code = await typed(f"systemctl() {{ echo $1 >>{tmp_path}/log; }}; {as_root}", data)
    texts = {each.read_text() for each in data.iterdir()}
    assert (code == 0, texts) == ((True, {"backup"}) if has_database else (False, {"data"}))
    assert (tmp_path / "log").exists() == has_database


async def test_a_copy_of_a_stopped_control_plane_is_the_same(tmp_path: Path) -> None:
    """Moved to another disk while it is stopped, it goes on, and Envoy is told nothing."""
    async with scene(tmp_path) as here, here.instance() as instance:
        serial = await here.serial()
        await here.cp.recorded(serial)
        before = await updates(instance.envoy)

        await here.cp.stop()
        restore(await back_up(STOPPED, here.cp.settings.data_dir), here.cp.settings.data_dir)
        await here.cp.start()
        await here.cp.synced()

        assert await here.serial() == serial
        assert await updates(instance.envoy) == before


def settings(directory: Path) -> Settings:
    """Return the settings of a control plane over a data directory, on ports that are free."""
    anywhere = SocketAddress("127.0.0.1", 0)
    return Settings(
        data_dir=directory, xds_address=anywhere, enroll_address=anywhere, http_address=anywhere
    )


async def test_a_copy_that_lost_the_database_is_not_taken_for_a_first_start(tmp_path: Path) -> None:
    """While a control plane runs, all of it may be in ``-wal``: copied alone, the file is empty."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    copy.mkdir(mode=0o700)
    async with ControlPlane(settings(data)):
        for name in (DATABASE_FILE, CA_FILE):
            shutil.copy2(data / name, copy)

    with pytest.raises(ConfigurationError) as refused:
        await ControlPlane(settings(copy)).__aenter__()
    (problem,) = refused.value.problems
    assert problem == (
        f"state database '{copy / DATABASE_FILE}' is damaged (it is empty, and there is a CA "
        "beside it): restore it from a backup, or move it away to start with nothing"
    )

    (copy / DATABASE_FILE).unlink()
    async with ControlPlane(settings(copy)) as fresh:
        assert not fresh.core.registry.state.apps
