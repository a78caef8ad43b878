"""What the commands for containers in docs/reliability.md do where something goes wrong.

The rule of this module: a container is stood in for by the machine, so that nothing but the
commands counts; that they work in one is proved in tests/compose.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.test_backup import DOCUMENT
from tests.needs import need_command

BACK_UP, RESTORE = re.findall(
    r"<!-- tests/compose runs this(?: too)? -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL
)

DOCKER = """#!/bin/sh
case "$2" in
    exec) shift 4; exec "$@" ;;
    run) shift 8; exec sh "$@" ;;
esac
"""
"""``docker compose exec -T SERVICE ...``, and the same of ``run`` with its options."""


class Machine:
    """A data directory, and somebody who types beside it."""

    def __init__(self, directory: Path) -> None:
        """Have a control plane's files there."""
        self.data, self.tar = directory / "data", directory / "backup.tar"
        self._programs, self._temporary = directory / "bin", directory / "tmp"
        for each in (self.data, self._programs, self._temporary):
            each.mkdir(mode=0o700)
        (self._programs / "docker").write_text(DOCKER)
        (self._programs / "docker").chmod(0o755)
        self.change("first")
        (self.data / "ca.pem").write_text("a CA")

    @property
    def left_over(self) -> list[str]:
        """What is left of the work, beside the backup."""
        known = {self.data, self.tar, self._programs, self._temporary}
        beside = set(self.data.parent.iterdir()) - known
        return sorted(each.name for each in (*beside, *self._temporary.iterdir()))

    def change(self, text: str) -> None:
        """Write into the database."""
        with sqlite3.connect(self.data / "c2c.db") as database:
            database.execute("CREATE TABLE IF NOT EXISTS changes (text)")
            database.execute("INSERT INTO changes VALUES (?)", (text,))
        database.close()

    def changes(self) -> list[str]:
        """Return what is in the database."""
        database = sqlite3.connect(self.data / "c2c.db")
        found = database.execute("SELECT text FROM changes").fetchall()
        database.close()
        return [text for (text,) in found]

    def types(self, commands: str) -> bool:
        """Do what the document says; false if one of the commands fails."""
        typed = subprocess.run(
            [need_command("bash", "bash"), "-euo", "pipefail", "-c", commands],
            cwd=self.data.parent,
            env={
                **os.environ,
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "TMPDIR": str(self._temporary),
                "C2C_DATA_DIR": str(self.data),
            },
            check=False,
            timeout=60,
        )
        return typed.returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a control plane's files."""
    return Machine(tmp_path)


def test_a_new_machine_gets_what_another_had(machine: Machine, tmp_path: Path) -> None:
    """A volume is empty there, and needs nothing before."""
    (tmp_path / "new").mkdir()
    new = Machine(tmp_path / "new")
    for each in new.data.iterdir():
        each.unlink()
    assert machine.types(BACK_UP)
    machine.tar.rename(new.tar)

    assert new.types(RESTORE)
    assert new.changes() == ["first"]
    assert {each.name for each in new.data.iterdir()} == {"c2c.db", "ca.pem"}
    assert [each for each in new.data.iterdir() if each.stat().st_mode & 0o077] == []


def test_a_backup_that_fails_leaves_the_last_one_and_no_secret(machine: Machine) -> None:
    """Neither a CA's key where nobody looks for it, nor something in the way of the next."""
    assert machine.types(BACK_UP)
    before = machine.tar.read_bytes()
    aside = (machine.data / "c2c.db").rename(machine.data / "aside")
    (machine.data / "c2c.db").mkdir()

    assert not machine.types(BACK_UP)
    assert machine.tar.read_bytes() == before
    assert [each for each in machine.left_over if each != "backup.tar.new"] == []

    (machine.data / "c2c.db").rmdir()
    aside.rename(machine.data / "c2c.db")
    assert machine.types(BACK_UP)
    assert machine.left_over == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tar: tar.write_bytes(b""),
        lambda tar: tar.write_bytes(tar.read_bytes()[:2000]),
        lambda tar: tar.write_text("no such container"),
    ],
    ids=["empty", "cut off", "something else"],
)
def test_a_backup_that_is_none_takes_nothing_away(
    machine: Machine, spoil: Callable[[Path], object]
) -> None:
    """What is there is more than what would come in its place."""
    assert machine.types(BACK_UP)
    machine.change("second")
    spoil(machine.tar)

    assert not machine.types(RESTORE)
    assert machine.changes() == ["first", "second"]
    assert (machine.data / "ca.pem").read_text() == "a CA"
