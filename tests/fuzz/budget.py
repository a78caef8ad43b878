"""How long fuzzers search: a fixed budget in every run, and ``make fuzz`` for a long one."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"

PARSER = settings(max_examples=200_000 if FUZZ else 300)
"""For what takes microseconds."""

CALL = settings(
    max_examples=3_000 if FUZZ else 40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""For what goes over a socket; the server behind it is the same for all examples of a test."""
