"""Turns: spread evenly, and the same for everybody who asks."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from control_plane.names import InstanceGuid
from control_plane.reconciler.pace import turn
from tests.unit.reconciler.clocks import NOON

FLEET = [InstanceGuid(f"instance-{number}") for number in range(5000)]


def test_turns_are_spread_over_the_time_that_the_rate_needs() -> None:
    """Of 5,000 at 100 a second, no second has many more than 100."""
    turns = [turn(each, NOON, len(FLEET), per_second=100) for each in FLEET]
    by_second = Counter((each - NOON).total_seconds() // 1 for each in turns)

    assert min(turns) >= NOON
    assert max(turns) < NOON + timedelta(seconds=50)
    assert len(by_second) == 50
    assert max(by_second.values()) < 150


def test_a_turn_follows_from_the_instance_and_the_beginning() -> None:
    """Also after a restart, where nobody remembers."""
    first, second = (turn(FLEET[0], NOON, 100, per_second=1) for _ in range(2))

    assert first == second != turn(FLEET[1], NOON, 100, per_second=1)
