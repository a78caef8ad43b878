"""Measure, print a table, and write ``BENCH_JSON`` (default ``bench/latest.json``), a line each.

``run.py`` runs everything, ``run.py storm memory`` only these; ``--quick`` is for CI, which sees
that everything works and not how fast it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import many_sidecars
import one_envoy
from figures import Figures, show, write

from control_plane.logs import configure_logging
from control_plane.settings.values import LogLevel

Measurement = Callable[..., Awaitable[Figures]]

MEASUREMENTS: dict[str, Measurement] = {
    "change_to_served": one_envoy.change_to_served,
    "fleet_rotation": many_sidecars.fleet_rotation,
    "one_change": many_sidecars.one_change,
    "storm": many_sidecars.storm,
    "memory": many_sidecars.memory,
    "policy": one_envoy.policy,
}


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    configure_logging(LogLevel.ERROR)
    path = Path(os.environ.get("BENCH_JSON") or Path(__file__).with_name("latest.json"))
    done: list[Figures] = []
    for name in options.names or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="c2c-bench-") as directory:
            figures = await MEASUREMENTS[name](Path(directory), quick=options.quick)
        show(figures)
        done.append(figures)
        write(path, done)


if __name__ == "__main__":
    asyncio.run(main())
