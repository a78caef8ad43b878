"""How long fuzzers search: a fixed budget in every run, and ``make fuzz`` for a long one.

The long ones, with those of ``tests/unit/xds/walking.py``, take an hour and a quarter of one core.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"

PARSER = settings(max_examples=50_000 if FUZZ else 300)
"""For what takes microseconds."""

SEQUENCE = settings(max_examples=20_000 if FUZZ else 100)
"""For many commands one after the other, which take some milliseconds."""

CALL = settings(
    max_examples=1_000 if FUZZ else 40,
    # A call that is not answered takes seconds each time on the way to its smallest form.
    phases=[phase for phase in Phase if FUZZ or phase is not Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
"""For what goes over a socket; the server behind it is the same for all examples of a test."""
