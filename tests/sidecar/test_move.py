"""Where a control plane is: behind a name, which may come to mean another place, or in a zone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from control_plane.cli.main import GRPC_VARIABLES
from tests.needs import lacks, need_command
from tests.sidecar import link_local, move, silence

LIMIT_SECONDS = 10.0
"""Some tries at the old address; gRPC by itself asks for a name again after half a minute."""


def test_a_control_plane_that_moves_is_found_in_seconds(tmp_path: Path) -> None:
    """Until it is, nobody tells what an instance serves, and it renews nothing."""
    names = tmp_path / "hosts"
    names.touch()
    seconds = _alone({"/etc/hosts": names}, move.__name__, "/etc/hosts")

    assert seconds < LIMIT_SECONDS


def test_a_name_server_that_is_silent_is_not_asked_for_what_the_machine_knows(
    tmp_path: Path,
) -> None:
    """As for every other program, /etc/hosts comes first and suffices."""
    names, servers = tmp_path / "hosts", tmp_path / "resolv.conf"
    names.write_text(f"{silence.LOOPBACK} {move.NAME}\n")
    servers.write_text(f"nameserver {silence.LOOPBACK}\n")
    files = {"/etc/hosts": names, "/etc/resolv.conf": servers}

    assert _alone(files, silence.__name__, own=["--net"]) < LIMIT_SECONDS


def test_a_link_local_address_is_reached_in_its_zone() -> None:
    """The address without the zone is that of no machine, so both ways to connect keep it."""
    assert _alone({}, link_local.__name__, own=["--net"]) < LIMIT_SECONDS


def _alone(
    files: Mapping[str, Path], module: str, *arguments: str, own: Sequence[str] = ()
) -> float:
    """Run a module as if by ``c2c``, and return the seconds that it prints.

    Args:
        files: what only this process sees at these paths.
        own: what else it has of its own.
    """
    unshare = need_command("unshare", "util-linux")
    mounts = " && ".join(["true", *(f"mount --bind {file} {path}" for path, file in files.items())])
    python = shlex.quote(sys.executable)
    script = f"{{ {mounts}; }} || exit 77; exec {python} -m {module} {' '.join(arguments)}"
    ran = subprocess.run(
        [unshare, "--map-root-user", "--mount", *own, "sh", "-c", script],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **GRPC_VARIABLES},
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in ran.stderr or ran.returncode == 77:
        lacks(f"this test needs to mount a file of its own: {ran.stderr}")
    assert ran.returncode == 0, ran.stderr
    return float(ran.stdout)
