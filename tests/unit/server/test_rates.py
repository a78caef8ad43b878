"""How often something may happen, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from control_plane.server.rates import TokenBucket, TokenBuckets
from tests.unit.reconciler.clocks import ManualClock
from tests.unit.server_security.still_clock import StillClock


def test_a_burst_passes_and_then_the_rate() -> None:
    """The bucket is full at first; then it gives one token for each that comes in."""
    clock = StillClock()
    bucket = TokenBucket(2.0, 3, clock)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]

    clock.time += timedelta(seconds=0.5)

    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_long_pause_fills_no_more_than_the_bucket() -> None:
    """An idle night is no reason for a larger burst."""
    clock = StillClock()
    bucket = TokenBucket(2.0, 3, clock)
    clock.time += timedelta(seconds=3600)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_refused_attempt_costs_nothing() -> None:
    """Who knocks all the time does not keep the bucket empty."""
    clock = StillClock()
    bucket = TokenBucket(1.0, 1, clock)
    assert bucket.take()

    taken = 0
    for _ in range(100):
        clock.time += timedelta(seconds=0.1)
        taken += bucket.take()

    assert 9 <= taken <= 10


def test_each_has_a_bucket_of_its_own() -> None:
    """What one took is missing for nobody else, and comes back with time."""
    clock = StillClock()
    buckets = TokenBuckets(1.0, 2, clock)

    assert [buckets.take("one") for _ in range(3)] == [True, True, False]
    assert buckets.take("two")
    assert (buckets.is_empty("one"), buckets.is_empty("two")) == (True, False)
    assert not buckets.is_empty("three")

    clock.time += timedelta(seconds=1)

    assert not buckets.is_empty("one")


async def test_a_client_whose_bucket_is_empty_waits_for_its_turn() -> None:
    """As long as the rate says, whatever others take meanwhile."""
    clock = ManualClock()
    buckets = TokenBuckets(10.0, 5, clock)
    await buckets.turn("a", 5)
    waiting = asyncio.create_task(buckets.turn("a", 3))
    await clock.advance(0.2)
    assert not waiting.done()
    await buckets.turn("b", 5)

    await clock.advance(0.2)
    assert waiting.done()
    assert not buckets.take("a", 2)


def test_buckets_are_bounded() -> None:
    """Who took nothing for longest is forgiven when there are too many; who is full at once."""
    clock = StillClock()
    buckets = TokenBuckets(1.0, 10, clock, most=3)
    for key in ("one", "two", "three", "one", "four"):
        buckets.take(key)

    assert list(buckets._buckets) == ["three", "one", "four"]

    clock.time += timedelta(seconds=1.5)
    buckets.take("one")

    assert list(buckets._buckets) == ["one"]
