"""The memory of the process, which has the keys, and its limits, of which strangers are many."""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.app.process import why_too_few
from tests.envoy.harness import DEADLINE
from tests.faults.plane import plane
from tests.installed import C2C

PROBE = """
import ctypes, resource
from control_plane.app.process import allow_connections
from control_plane.reconciler.certificates.dumps import forbid_dumps
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
forbid_dumps()
allow_connections()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), hard,
      *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
"""PR_GET_DUMPABLE is 3 (prctl(2)); the kernel shows it to the process itself only."""

SECOND_PROBE = """
import ctypes, resource
from control_plane.reconciler.certificates import issuer_process as issuing
def serve(*_):
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
issuing.serve = serve
issuing.main()
"""
"""What it may do when it begins to serve."""


def test_the_memory_of_the_process_can_be_dumped_by_nobody() -> None:
    """After the call there are no core dumps, and files may be open as many as are allowed."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    assert run.stdout == f"0 (0, 0) {hard} {hard} {hard}\n"


async def test_c2c_serve_runs_without_dumps(tmp_path: Path) -> None:
    """The command makes that call before it has any key."""
    async with plane(tmp_path) as cf:
        assert cf.process is not None
        limits = Path(f"/proc/{cf.process.pid}/limits").read_text(encoding="ascii")
        rows = dict(re.findall(r"^(Max [a-z ]+?)\s{2,}(\S+\s+\S+)", limits, re.MULTILINE))

        assert rows["Max core file size"].split() == ["0", "0"]
        soft, hard = rows["Max open files"].split()
        assert soft == hard


def test_the_second_process_runs_without_dumps() -> None:
    """The one that issues for crowds has keys too, and a new program could be dumped again."""
    run = subprocess.run(
        [sys.executable, "-c", SECOND_PROBE],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )

    assert run.stdout == "0 (0, 0)\n"


@pytest.mark.parametrize("files", [12, 20, 63])
def test_a_server_that_may_open_too_few_files_says_so(tmp_path: Path, files: int) -> None:
    """Otherwise the first file too many would fail later, and each in words of its own."""
    words = ("serve", "--data-dir", str(tmp_path / "data"))
    ran = subprocess.run(
        ["sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', C2C, *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )

    assert ran.returncode == 1
    assert ran.stderr == (
        f"This process may have {files} files open, and a server needs 64 and one for each "
        "connection: raise the limit ('ulimit -Hn', LimitNOFILE= of systemd, --ulimit nofile= of "
        "Docker)\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("files", "instances", "reason"),
    [
        (1024, 240, ""),
        (1024, 241, "1024 files open, .*, and the 241 instances that are known need 1028: whoever"),
        (20_000, 5_000, ""),
        (1023, 0, "1023 files open, of which each connection is one: whoever is one too many"),
        (math.inf, 10**6, ""),
    ],
)
def test_a_fleet_that_finds_no_room_is_told_of(files: float, instances: int, reason: str) -> None:
    """As many files as are usual are enough until instances are known that need more."""
    assert re.search(reason or "^$", why_too_few(files, instances))
