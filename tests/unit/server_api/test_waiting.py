"""A request says how far a change has to get and how long that may take."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import progress_pb2
from control_plane.errors import InvalidArgument
from control_plane.reconciler.progress import Stage
from control_plane.server.api.waiting import Wait, parse_wait


@pytest.mark.parametrize(
    ("wait", "stage"),
    [
        (progress_pb2.WAIT_COMMITTED, Stage.COMMITTED),
        (progress_pb2.WAIT_ACKED, Stage.ACKED),
        (progress_pb2.WAIT_SERVED, Stage.SERVED),
    ],
    ids=["committed", "acked", "served"],
)
def test_each_wait_has_its_stage(wait: int, stage: Stage) -> None:
    """What a caller waits for is a stage that changes go through; 30 s if it says no time."""
    assert parse_wait(wait, None) == Wait(stage, 30.0)


def test_every_wait_of_the_api_is_known() -> None:
    """No number of the enum is refused."""
    stages = {parse_wait(value, None).stage for value in progress_pb2.Wait.values()}

    assert stages == set(Stage)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (Duration(), 0.0),
        (Duration(nanos=1_000_000), 0.001),
        (Duration(seconds=90), 90.0),
        (Duration(seconds=3600), 3600.0),
    ],
    ids=["none-at-all", "a-millisecond", "a-minute-and-a-half", "an-hour"],
)
def test_a_timeout_up_to_an_hour_is_taken(timeout: Duration, seconds: float) -> None:
    """A timeout of zero asks how far things are now; the longest is an hour."""
    assert parse_wait(progress_pb2.WAIT_ACKED, timeout).seconds == seconds


@pytest.mark.parametrize(
    ("timeout", "sentence"),
    [
        (Duration(seconds=-1), "timeout must be 0 to 3600 seconds, not -1"),
        (Duration(seconds=3601), "timeout must be 0 to 3600 seconds, not 3601"),
        (Duration(seconds=2**62), "timeout must be 0 to 3600 seconds, not 4.61168601843e+18"),
    ],
    ids=["negative", "over-an-hour", "over-any-calendar"],
)
def test_any_other_timeout_is_refused(timeout: Duration, sentence: str) -> None:
    """A length that no timer takes is refused with its field."""
    with pytest.raises(InvalidArgument) as caught:
        parse_wait(progress_pb2.WAIT_ACKED, timeout)

    assert (caught.value.rule, caught.value.field) == (sentence, "timeout")


def test_a_wait_that_is_not_known_is_refused() -> None:
    """A newer client that asks for more than this server knows is told so, not misunderstood."""
    with pytest.raises(InvalidArgument) as caught:
        parse_wait(7, None)

    assert (caught.value.rule, caught.value.field) == (
        "unknown wait 7, known are: WAIT_COMMITTED, WAIT_ACKED, WAIT_SERVED",
        "wait",
    )
