"""A control plane that moves: its name leads to another address, and sidecars follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.needs import lacks, need_command
from tests.sidecar import move

LIMIT_SECONDS = 10.0
"""Some tries at the old address; gRPC by itself asks for a name again after half a minute."""


def test_a_control_plane_that_moves_is_found_in_seconds(tmp_path: Path) -> None:
    """Until it is, nobody tells what an instance serves, and it renews nothing."""
    unshare = need_command("unshare", "util-linux")
    names = tmp_path / "hosts"
    names.touch()
    # A file of names that only this process sees.
    script = f"""
        mount --bind {names} /etc/hosts || exit 77
        exec {sys.executable} -m {move.__name__} /etc/hosts
    """
    ran = subprocess.run(
        [unshare, "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in ran.stderr or ran.returncode == 77:
        lacks(f"this test needs to mount a file of its own: {ran.stderr}")

    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < LIMIT_SECONDS
