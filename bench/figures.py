"""How figures are summarised and shown.

The rule of this module: a figure has its unit in its name, and a measurement says what it compares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

Figures = dict[str, float | int | str]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that is not exceeded by this percentage of the values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def milliseconds(name: str, seconds: Sequence[float]) -> Figures:
    """Return the median and the 99th percentile of some times."""
    prefix = f"{name}_" if name else ""
    return {
        f"{prefix}p50_ms": round(percentile(seconds, 50) * 1e3, 2),
        f"{prefix}p99_ms": round(percentile(seconds, 99) * 1e3, 2),
    }


def show(figures: Figures) -> None:
    """Print one measurement as lines of a table."""
    name, *rest = figures.items()
    for key, value in rest:
        print(f"{name[1]:<18} {key:<38} {value:>12}", flush=True)


def write(path: Path, measurements: Sequence[Figures]) -> None:
    """Write the measurements, one JSON object per line."""
    path.write_text("".join(json.dumps(each) + "\n" for each in measurements))
