"""How far random walks go: seconds in a test run, hours with ``HYPOTHESIS_PROFILE=fuzz``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"

WALK = settings(
    max_examples=20_000 if FUZZ else 300,
    stateful_step_count=100 if FUZZ else 50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

SCRIPT = settings(WALK, max_examples=200_000 if FUZZ else 300)

SHORT_WALK = settings(WALK, max_examples=20_000 if FUZZ else 100)
