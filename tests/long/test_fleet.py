"""A fleet that comes at once, and goes: everybody is served, and the server is as it was before.

``make test-long`` has 5,000 simulated sidecars do so; otherwise it is some hundreds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.fleet import Fleet, prepare
from bench.processes import Server, control_plane, talker
from tests.envoy.harness import until
from tests.inspection.test_metrics import total
from tests.long.test_rotations import IS_LONG

SIDECARS = 5_000 if IS_LONG else 200

RATE = 50 if IS_LONG else 20
"""New streams a second where not all may come at once: fewer than a busy machine could serve."""

IN_TURN = 2 * SIDECARS / RATE + 30.0
"""When the last one is synced, in seconds: what the rate needs, as much for the handshakes of those
who are refused, and one pause at its longest, which is 30 s by Envoy's default."""

MARGIN_KIB = 32
"""What one sidecar may leave; while it is connected, it takes some 150 KiB."""

SPARE_FILES = 16
"""Pipes to the second process, which issues while a crowd waits and lives on for a minute."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What a wave was like.

    Attributes:
        seconds: how long it took until the slowest sidecar was synced.
        refused: how many streams the server has refused so far for being too many.
        peak_kib: the most memory that the server ever held until then; how much of it goes back to
            the kernel is chance, but the next wave can have it.
        rss_kib: the memory that it holds after it.
    """

    seconds: float
    refused: float
    peak_kib: int
    rss_kib: int


async def wave(server: Server, fleet: Fleet) -> Wave:
    """Have all sidecars connect at once, be synced, and vanish without a word."""
    files = _files(server)
    async with talker("sidecars.py", server.xds, fleet.file, "--at-once", SIDECARS) as crowd:
        start = time.monotonic()
        crowd.tell("connect", SIDECARS)
        synced, _ = await crowd.hear("synced")
        assert await total(server.http, "c2c_xds_streams") == SIDECARS

    async def is_forgotten() -> bool:
        streams = await total(server.http, "c2c_xds_streams")
        return not streams and _files(server) <= files + SPARE_FILES

    await until(is_forgotten, what="no stream and no connection is left", timeout=60)
    refused = await total(server.http, "c2c_xds_streams_refused")
    peak, rss = _memory_kib(server)
    return Wave(float(synced) - start, refused, peak, rss)


async def test_a_fleet_that_reconnects_at_once_leaves_nothing(tmp_path: Path) -> None:
    """All are synced each time; streams and connections go, and the second finds memory enough."""
    fleet = await prepare(tmp_path / "fleet", SIDECARS)
    async with control_plane(fleet.data_dir, "--max-new-streams-per-second", "100000") as server:
        first, second = await wave(server, fleet), await wave(server, fleet)

    assert second.refused == 0
    assert second.rss_kib - first.peak_kib < SIDECARS * MARGIN_KIB


async def test_a_fleet_that_may_not_come_at_once_comes_in_turn(tmp_path: Path) -> None:
    """Who is refused comes again and is synced, and nobody starves however often it was refused."""
    fleet = await prepare(tmp_path / "fleet", SIDECARS)
    async with control_plane(fleet.data_dir, "--max-new-streams-per-second", str(RATE)) as server:
        only = await wave(server, fleet)

    assert only.refused > 0
    assert only.seconds < IN_TURN


def _files(server: Server) -> int:
    return len([*Path(f"/proc/{server.process.pid}/fd").iterdir()])


def _memory_kib(server: Server) -> list[int]:
    """Return peak and present of the server's own process, without the one that issues."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return [int(each.split()[1]) for each in lines if each.startswith(("VmHWM", "VmRSS"))]
