"""A shell completes the names of apps and instances of the server that the line names."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from control_plane.ca import create_authority, new_key_pair
from control_plane.ca.rotation_file import authority_pem
from control_plane.cli import name_completion, reach
from control_plane.cli.main import Program
from control_plane.store.files import write_private
from tests.unit.cli.running import Run, run_c2c


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


@pytest.mark.parametrize(
    "line", ["status ", "certs ", "instances --app ", "wait ", "events ", "why api ", "why "]
)
def test_wherever_one_instance_may_be_named(apps: Run, line: str) -> None:
    """Once an app and a slash are typed, its instances are completed."""
    for address in ("127.0.1.1", "127.0.1.2"):
        assert apps("register-instance", "web", "--address", address).code == 0

    assert completed(apps, f"c2c {line}web/") == ["web/0", "web/1"]
    assert completed(apps, f"c2c {line}nope/") == []


@pytest.mark.parametrize("command", ["remove-instance", "bootstrap"])
def test_wherever_an_instance_is_named(apps: Run, command: str) -> None:
    """The instances of the space are completed, as they are written in every table."""
    for address, app, *words in (
        ("127.0.1.1", "web"),
        ("127.0.1.2", "api"),
        ("127.0.1.3", "web-2", "-s", "other"),
    ):
        assert apps("register-instance", app, "--address", address, *words).code == 0

    assert completed(apps, f"c2c {command} ") == ["api/0", "web/0"]
    assert completed(apps, f"c2c {command} w") == ["web/0"]
    assert completed(apps, f"c2c {command} -s other w") == ["web-2/0"]


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
    monkeypatch.setattr(name_completion, "PATIENCE_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        started = time.monotonic()

        assert completed(run_c2c, f"c2c app --data-dir {tmp_path} w") == []
        assert time.monotonic() - started < 5


def test_a_far_server_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command would wait longer for its greeting; whoever types does not."""
    monkeypatch.setattr(name_completion, "PATIENCE_SECONDS", 0.1)
    own, now = tmp_path / "own.pem", datetime.now(UTC)
    made = create_authority(
        "own", now=now, lifetime=timedelta(days=1), key=new_key_pair(), serial=1
    )
    write_private(own, authority_pem(made))
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        server = f"--server 127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()

        assert completed(run_c2c, f"c2c app {server} --cert {own} --key {own} --ca {own} w") == []
        assert time.monotonic() - started < reach.SECONDS


def test_an_org_that_looks_like_a_format_is_no_warning_yet() -> None:
    """The line is not finished, so the warning would stand in the middle of it."""
    assert completed(run_c2c, "c2c -o json map") == ["map-route"]


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_a_version_that_was_asked_for_is_not_printed_yet(
    monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """To print it runs another command, which would complete the same line again, and so on."""
    runs: list[object] = []

    def counted(*arguments: Any, **options: Any) -> NoReturn:  # noqa: ANN401 - as click has it
        runs.append(arguments)
        main(*arguments, **options)

    main = Program.main
    monkeypatch.setattr(Program, "main", counted)

    assert completed(run_c2c, f"c2c {flag} map") == ["map-route"]
    assert len(runs) == 1
