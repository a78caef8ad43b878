"""How random walks end, and how far they go: seconds in a run, half an hour by ``make fuzz``."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

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


class WalkToRest(RuleBasedStateMachine):
    """A walk that settles in the end, unless it failed or did not begin."""

    def settle(self) -> None:
        """Deliver and answer everything, and compare what there is with what should be."""
        raise NotImplementedError

    def teardown(self) -> None:
        """End every walk at rest."""
        if hasattr(self, "stream") and sys.exc_info()[0] is None:
            self.settle()
