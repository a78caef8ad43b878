"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.cli.inspect_moments import ago, ahead

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(seconds: float) -> Timestamp:
    """Return a moment so many seconds from now."""
    made = Timestamp()
    made.FromDatetime(NOW + timedelta(seconds=seconds))
    return made


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_an_age_has_the_largest_unit_of_which_there_are_two(seconds: float, shown: str) -> None:
    """So that a glance is enough; a clock that is a little ahead makes nothing negative."""
    assert ago(moment(-seconds), NOW) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(90, "in 90s"), (0, "over"), (-90, "over")])
def test_what_is_ahead_may_be_over(seconds: float, shown: str) -> None:
    """A certificate that has expired does not expire again."""
    assert ahead(moment(seconds), NOW) == shown
