"""Measurements with many simulated sidecars: rotation, one change, a storm of reconnects, memory.

The rule of this module: a sidecar counts only if it has a connection, mutual TLS and every resource
of its own. What a server used is what the kernel reports of its process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from connected import UNLIMITED, Connected, connected, map_everywhere, quiet
from figures import Figures
from fleet import Fleet, prepare, write_floor
from one_envoy import envoy
from processes import Server, Talker, children, control_plane, talker

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.model.entities import InstanceStatus

_FINE = (inspection_pb2.CONFIG_STATUS_SYNCED, inspection_pb2.CONFIG_STATUS_NOT_ASKED)


async def fleet_rotation(directory: Path, *, quick: bool) -> Figures:
    """Rotate every certificate of a fleet until all are ACKed, and compare that with the floor."""
    small, big, rounds = (100, 200, 1) if quick else (1000, 5000, 3)
    figures = {
        number: await _rotation(directory / str(number), number, rounds) for number in (small, big)
    }
    return {
        "name": "fleet_rotation",
        "sidecars": big,
        **figures[big],
        "small_fleet": small,
        **{f"small_{name}": figure for name, figure in figures[small].items()},
    }


async def _rotation(directory: Path, number: int, rounds: int) -> Figures:
    # Big apps, so that certificates are measured and not commands.
    async with connected(directory, number, size=100) as here:
        alone = await _rotations(here, "a", rounds)
        await here.report()
        reported = await _rotations(here, "r", rounds)
    floor = await _floor(directory, here.fleet, rounds)
    return {
        **reported,
        **{f"without_reports_{name}": figure for name, figure in alone.items()},
        "floor_per_second": round(number / median(floor)),
    }


async def _rotations(here: Connected, name: str, rounds: int) -> Figures:
    """Rotate every certificate this many times, by routes whose hosts begin with this name."""
    number = len(here.fleet.members)
    seconds, used = [], []
    for turn in range(rounds):
        here.crowd.tell("watch")
        before, start = here.server.usage(), time.monotonic()
        await map_everywhere(here.server, here.fleet.apps, f"{name}{turn}")
        await here.crowd.hear("pushed")
        seconds.append(time.monotonic() - start)
        used.append(here.server.usage().cpu_seconds - before.cpu_seconds)
        await quiet(here.server)
    return {
        "per_second": round(number / median(seconds)),
        "server_cpu_us": round(median(used) / number * 1e6),
    }


async def _floor(directory: Path, fleet: Fleet, rounds: int) -> list[float]:
    """Return the seconds that pushes of prepared bytes to as many clients take, all ACKed."""
    write_floor(directory / "floor", fleet, fleet.members[0], rounds)
    async with talker("floor.py", directory / "floor") as floor:
        (port,) = await floor.hear("ready")
        async with talker("sidecars.py", f"127.0.0.1:{port}", fleet.file) as crowd:
            crowd.tell("connect", len(fleet.members))
            await crowd.hear("synced")
            seconds = []
            for _ in range(rounds):
                start = time.monotonic()
                floor.tell("push")
                seconds.append(float((await floor.hear("done"))[0]) - start)
    return seconds


async def one_change(directory: Path, *, quick: bool) -> Figures:
    """Map the same route in a small and in a big fleet, in turns.

    A fleet uses CPU all the time, for its reports; ``cpu_ratio`` includes that, the other ratio
    does not.
    """
    small, big, rounds = (20, 200, 10) if quick else (100, 5000, 60)
    async with AsyncExitStack() as stack:
        fleets = [
            await stack.enter_async_context(connected(directory / str(number), number + 10))
            for number in (small, big)
        ]
        for here in fleets:
            await here.report()
        seconds: list[list[float]] = [[], []]
        used: list[list[float]] = [[], []]
        for turn in range(rounds):
            for which, here in enumerate(fleets):
                before, start = here.server.usage(), time.monotonic()
                await map_everywhere(here.server, ["app-0"], f"o{turn}")
                seconds[which].append(time.monotonic() - start)
                used[which].append(here.server.usage().cpu_seconds - before.cpu_seconds)
        idle = await _idle([here.server for here in fleets], 2 if quick else 25)
    few, many = map(median, seconds)
    above = [sum(used[each]) - idle[each] * sum(seconds[each]) for each in (0, 1)]
    return {
        "name": "one_change",
        "small_fleet": small,
        "big_fleet": big,
        "rounds": rounds,
        "small_p50_ms": round(few * 1e3, 2),
        "big_p50_ms": round(many * 1e3, 2),
        "median_ratio": round(many / few, 2),
        "cpu_ratio": _ratio(sum(used[1]), sum(used[0])),
        "cpu_ratio_without_reports": _ratio(above[1], above[0]),
        "small_idle_cpu_percent": round(100 * idle[0], 1),
        "big_idle_cpu_percent": round(100 * idle[1], 1),
    }


async def _idle(servers: Sequence[Server], seconds: int) -> list[float]:
    """Return which part of a core each server uses while nothing changes, for some seconds."""
    before = [each.usage().cpu_seconds for each in servers]
    await asyncio.sleep(seconds)
    after = [each.usage().cpu_seconds for each in servers]
    return [(end - start) / seconds for start, end in zip(before, after, strict=True)]


def _ratio(big: float, small: float) -> float:
    """Return a ratio of CPU times, of which the kernel counts hundredths of a second."""
    return round(big / max(small, 0.01), 2)


async def storm(directory: Path, *, quick: bool) -> Figures:
    """Let a whole fleet connect at once, with Envoy's own first request and the usual admission.

    First they connect like Envoys that have nothing yet, as after a power cut; then once more, like
    Envoys that went on serving while the control plane restarted.
    """
    number = 200 if quick else 5000
    fleet = await prepare(directory, number, status=InstanceStatus.READY)
    first = await _first_request(directory, fleet)
    async with AsyncExitStack() as stack:
        async with control_plane(fleet.data_dir) as server:
            options = ("--first-request", first, "--at-once", number)
            crowd = await stack.enter_async_context(
                talker("sidecars.py", server.xds, fleet.file, *options)
            )
            fresh = await _rush(server, crowd, number)
            await quiet(server)
            crowd.tell("leave")
            await crowd.hear("left")
        async with control_plane(fleet.data_dir, at=server.xds) as server:
            again = await _rush(server, crowd, number)
            await _all_synced(server, fleet)
    return {
        "name": "storm",
        "sidecars": number,
        "first_request_bytes": first.stat().st_size,
        **again,
        **{f"fresh_{name}": figure for name, figure in fresh.items()},
    }


async def _rush(server: Server, crowd: Talker, number: int) -> Figures:
    before, start = server.usage(), time.monotonic()
    crowd.tell("connect", number)
    synced, refused = await crowd.hear("synced")
    after = server.usage()
    return {
        "seconds": round(float(synced) - start, 1),
        "refused_for_now": int(refused),
        "server_cpu_ms_each": round((after.cpu_seconds - before.cpu_seconds) / number * 1e3, 2),
        "kib_per_sidecar": round((after.rss_kib - before.rss_kib) / number),
    }


async def _all_synced(server: Server, fleet: Fleet) -> None:
    """Raise unless the control plane says that every instance has everything it should have."""
    stub = inspection_pb2_grpc.InspectionServiceStub(server.operator)
    for app in fleet.apps:
        status = await stub.GetStatus(inspection_pb2.GetStatusRequest(app=app))
        for instance in status.instances:
            behind = [each.type for each in instance.types if each.status not in _FINE]
            if behind:
                raise RuntimeError(f"{instance.instance_guid} is behind: {', '.join(behind)}")


async def _first_request(directory: Path, fleet: Fleet) -> Path:
    """Return a file with what a real Envoy sends first."""
    write_floor(directory / "floor", fleet, fleet.members[0], 0)
    async with talker("floor.py", directory / "floor") as floor:
        (port,) = await floor.hear("ready")
        async with envoy(directory / "envoy", fleet, fleet.members[0], int(port)):
            (first,) = await floor.hear("first")
    return Path(first)


async def memory(directory: Path, *, quick: bool) -> Figures:
    """Measure the control plane's memory before a fleet connects, after it, and after reports."""
    number = 200 if quick else 5000
    fleet = await prepare(directory, number)
    async with (
        control_plane(fleet.data_dir, *UNLIMITED) as server,
        talker("sidecars.py", server.xds, fleet.file) as crowd,
    ):
        base = server.usage().rss_kib
        crowd.tell("connect", number)
        await crowd.hear("synced")
        await quiet(server)
        if not quick:
            await _alone(server)
        connected = server.usage().rss_kib
        crowd.tell("report")
        await crowd.hear("reporting")
        await quiet(server)
        reported = server.usage().rss_kib
        (idle,) = await _idle([server], 2 if quick else 30)
    return {
        "name": "memory",
        "sidecars": number,
        "base_mib": round(base / 1024),
        "kib_per_sidecar": round((connected - base) / number),
        "kib_per_report": round((reported - connected) / number),
        "idle_cpu_percent": round(100 * idle, 1),
    }


async def _alone(server: Server) -> None:
    """Return once the second process, which issues for a crowd, has ended a minute after that.

    It takes as much memory for a hundred sidecars as for all of them.
    """
    while True:
        if not children(server.process.pid):
            return
        await asyncio.sleep(1.0)
