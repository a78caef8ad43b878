"""How far random walks go: seconds in a test run, half an hour with ``make fuzz``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.fuzz.budget import FUZZ

WALK = settings(
    max_examples=8_000 if FUZZ else 300,
    stateful_step_count=100 if FUZZ else 50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

SCRIPT = settings(WALK, max_examples=100_000 if FUZZ else 300)

SHORT_WALK = settings(WALK, max_examples=5_000 if FUZZ else 100)
