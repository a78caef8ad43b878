"""Random walks end where they should, and break no rule on the way."""

from __future__ import annotations

from hypothesis.stateful import run_state_machine_as_test

from tests.unit.xds.walk import Walk
from tests.unit.xds.walking import WALK


class DeltaWalk(Walk):
    """A walk of a client of the incremental variant."""

    delta = True


class SotwWalk(Walk):
    """A walk of a client of the state-of-the-world variant."""

    delta = False


def test_delta_clients_end_up_with_what_they_should_have() -> None:
    """C1, W7, W9, W12, A7, A11, R1, R5: no walk of a delta client breaks or misses a rule."""
    run_state_machine_as_test(DeltaWalk, settings=WALK)


def test_sotw_clients_end_up_with_what_they_should_have() -> None:
    """W2, W5, A7, A8, A10, R1, R3, R4: no walk of a SotW client breaks or misses a rule."""
    run_state_machine_as_test(SotwWalk, settings=WALK)
