"""What systemd is told of a control plane that it started as a service of ``Type=notify``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from control_plane.supervisor import READY, tell_supervisor
from tests.installed import C2C
from tests.supervisor import supervisor, was_told_no_more

DEADLINE = 30.0
ANY_PORT = {f"C2C_{name}_ADDRESS": "127.0.0.1:0" for name in ("XDS", "ENROLL", "HTTP")}


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_a_start_is_told_once_commands_are_answered(tmp_path: Path, kind: str) -> None:
    """So systemctl start returns then and not before; the end is told too, and once each."""
    address = str(tmp_path / "notify") if kind == "file" else f"@c2c-test-{os.getpid()}"
    environ = {
        **os.environ,
        **ANY_PORT,
        "C2C_DATA_DIR": str(tmp_path / "data"),
        "NOTIFY_SOCKET": address,
    }
    with supervisor(address) as told:
        process = subprocess.Popen([C2C, "serve"], env=environ, stderr=subprocess.PIPE)
        try:
            assert told.recv(100) == b"READY=1"
            with socket.socket(socket.AF_UNIX) as operator:
                operator.connect(str(tmp_path / "data" / "admin.sock"))
            process.send_signal(signal.SIGTERM)
            assert told.recv(100) == b"STOPPING=1"
            process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
            process.communicate()
        was_told_no_more(told)

    assert process.returncode == 0


def test_a_start_that_fails_is_never_told(tmp_path: Path) -> None:
    """Whoever restarts it with wrong settings learns that from the command that does it."""
    address = str(tmp_path / "notify")
    environ = {**os.environ, **ANY_PORT, "C2C_XDS_ADDRESS": "192.0.2.1:0", "NOTIFY_SOCKET": address}
    with supervisor(address) as told:
        ran = subprocess.run(
            [C2C, "serve", "--data-dir", str(tmp_path / "data")],
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        was_told_no_more(told)

    assert ran.returncode == 1
    assert "cannot listen on 192.0.2.1:0" in ran.stderr.lower()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "/nowhere/notify"])
def test_who_does_not_listen_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """It is no error that nobody started it, or somebody who is gone."""
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    tell_supervisor(READY)


def test_a_supervisor_that_does_not_read_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it could not be told is lost."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with supervisor(address), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.settimeout(0)
        with suppress(BlockingIOError):
            for _ in range(100_000):
                other.sendto(b"WATCHDOG=1", address)

        tell_supervisor(READY)


def test_why_a_start_fails_is_an_error_in_the_journal(tmp_path: Path) -> None:
    """It is no line of the log, and journalctl --priority=err has to find it all the same."""
    reading, writing = os.pipe()
    pipe = os.fstat(writing)
    environ = {**os.environ, "C2C_XDS_ADDRESS": "nowhere", "C2C_LOG_LEVEL": "loud"}
    environ["JOURNAL_STREAM"] = f"{pipe.st_dev}:{pipe.st_ino}"
    with os.fdopen(reading) as journal:
        with os.fdopen(writing, "w") as stderr:
            code = subprocess.call(
                [C2C, "serve", "--data-dir", str(tmp_path / "data")],
                env=environ,
                stderr=stderr,
                timeout=DEADLINE,
            )
        lines = journal.readlines()

    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["<3>C2C_XDS_ADDRESS", "<3>C2C_LOG_LEVEL"]
