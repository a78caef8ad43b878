"""How open files are shared out among ports."""

from __future__ import annotations

import math

import pytest

from control_plane.app.port_limits import FEWEST_FILES, shares
from control_plane.app.process import CLIENTS_OF_INSTANCE


@pytest.mark.parametrize("files", [128, 1024, 4096, 20_000, 1 << 20, math.inf])
def test_all_ports_together_leave_some_files(files: float) -> None:
    """However full they are, there is a file for the disk, the socket and the HTTP port."""
    each = shares(files)

    assert min(each.enrollment, each.operators, each.xds) > 0
    assert each.enrollment + each.operators + each.xds < files - FEWEST_FILES


@pytest.mark.parametrize("instances", [10, 240, 1000, 5000, 100_000])
def test_instances_have_three_quarters_at_the_least(instances: int) -> None:
    """So four files for each are enough, whatever strangers do at another port."""
    files = FEWEST_FILES + 4 * instances

    assert shares(max(128, files)).xds >= CLIENTS_OF_INSTANCE * instances


def test_what_strangers_may_hold_does_not_grow_with_a_fleet() -> None:
    """It is memory too, and those who enrol stay for a second."""
    assert shares(math.inf).enrollment == shares(20_000).enrollment == 2048
    assert shares(math.inf).operators == shares(20_000).operators == 128
