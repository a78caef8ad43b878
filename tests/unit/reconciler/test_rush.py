"""When things come so fast that it pays to spread them."""

from __future__ import annotations

from control_plane.reconciler.pace import Rush


def test_many_in_a_short_time_are_a_rush() -> None:
    """It begins with the last of so many, and is over when the first of them is long ago."""
    rush = Rush(3, 2.0)
    for moment in (10.0, 10.5):
        rush.note(moment)
        assert not rush.is_on(moment)
    rush.note(11.0)

    assert rush.is_on(11.0)
    assert rush.is_on(12.0)
    assert not rush.is_on(12.1)


def test_those_that_come_one_by_one_are_none() -> None:
    """However many they are in the end."""
    rush = Rush(3, 2.0)
    for moment in range(0, 100, 2):
        rush.note(float(moment))
        assert not rush.is_on(float(moment))
