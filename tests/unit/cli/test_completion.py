"""A shell completes the names of apps: those of the server that the rest of the line names."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from control_plane.cli import app_names
from tests.unit.cli.conftest import Run, run_c2c


def completed(c2c: Run, words: str) -> list[str]:
    """Return what a shell is told of the last word of a line, and nothing else is said."""
    index = len(words.split(" ")) - 1
    ran = c2c(_C2C_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(index))
    assert (ran.code, ran.err) == (0, "")

    return [line.partition(",")[2] for line in ran.out.splitlines() if line]


@pytest.fixture
def apps(c2c: Run) -> Run:
    """Create some apps in two spaces."""
    for name in ("web", "worker", "api"):
        assert c2c("create-app", name).code == 0
    assert c2c("create-app", "web-2", "-s", "other").code == 0
    return c2c


@pytest.mark.parametrize(
    "line",
    [
        "app ",
        "delete-app ",
        "update-app ",
        "instances ",
        "instances --app ",
        "routes ",
        "map-route ",
        "unmap-route ",
        "join-token ",
        "revoke-join-tokens ",
        "register-instance ",
        "certs ",
        "status ",
        "wait ",
        "why ",
        "why api ",
        "network-policies --source ",
        "add-network-policy ",
        "remove-network-policy api ",
        "add-network-policy api --destination-app ",
    ],
)
def test_wherever_an_app_is_named(apps: Run, line: str) -> None:
    """Its name is completed, whether it is an argument or the value of a flag."""
    assert completed(apps, f"c2c {line}w") == ["web", "worker"]


def test_apps_of_the_space_that_is_named(apps: Run) -> None:
    """Of another space only where the line says so before."""
    assert completed(apps, "c2c app -s other w") == ["web-2"]
    assert completed(apps, "c2c -s other app ") == ["web-2"]


def test_what_is_new_has_no_name_yet(apps: Run) -> None:
    """Nobody creates an app that is there."""
    assert "web" not in completed(apps, "c2c create-app w")


def test_without_a_server_nothing_is_said(tmp_path: Path) -> None:
    """Whoever presses the key wants no error in the middle of the line."""
    for line in ("c2c app w", "c2c app --server nowhere w", f"c2c app --data-dir {tmp_path} w"):
        assert completed(run_c2c, line) == []


def test_a_server_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person goes on typing when nothing comes."""
    monkeypatch.setattr(app_names, "PATIENCE_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        started = time.monotonic()

        assert completed(run_c2c, f"c2c app --data-dir {tmp_path} w") == []
        assert time.monotonic() - started < 5
