"""The queue of renewals: each instance once, for the earliest of its moments."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import Profile, renew_at
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.renewals import (
    LONGEST_RETRY,
    RETRY,
    RETRY_JITTER,
    Jumps,
    RenewalQueue,
    Retries,
)
from tests.unit.reconciler.clocks import NOON

A, B, C = (InstanceGuid(name) for name in "abc")


def queue(**moments: int) -> RenewalQueue:
    """Return a queue with these instances, so many minutes after noon."""
    filled = RenewalQueue()
    for name, minutes in moments.items():
        filled.add(InstanceGuid(name), NOON + timedelta(minutes=minutes))
    return filled


def test_an_empty_queue_has_no_moment() -> None:
    """There is nothing to wait for."""
    assert RenewalQueue().next() is None
    assert RenewalQueue().take_due(NOON) == []


def test_the_earliest_comes_first() -> None:
    """Exactly at its moment an instance is due, and it is taken once."""
    filled = queue(b=2, a=1, c=3)

    assert filled.next() == NOON + timedelta(minutes=1)
    assert filled.take_due(NOON) == []
    assert filled.take_due(NOON + timedelta(minutes=2)) == [A, B]
    assert filled.next() == NOON + timedelta(minutes=3)
    assert filled.take_due(NOON + timedelta(hours=1)) == [C]
    assert filled.next() is None


def test_the_earlier_of_two_moments_counts() -> None:
    """A later one does not delay it; whoever takes the instance looks at all of it."""
    filled = queue(a=5)

    filled.add(A, NOON + timedelta(minutes=9))
    assert filled.next() == NOON + timedelta(minutes=5)
    filled.add(A, NOON + timedelta(minutes=1))

    assert filled.take_due(NOON + timedelta(hours=1)) == [A]


def test_an_instance_that_was_taken_can_be_queued_anew() -> None:
    """Its old moments are forgotten with it."""
    filled = queue(a=1)
    filled.take_due(NOON + timedelta(minutes=1))

    filled.add(A, NOON + timedelta(minutes=7))

    assert filled.next() == NOON + timedelta(minutes=7)


def test_a_removed_instance_is_not_due() -> None:
    """It leaves the queue, also if it was never in it."""
    filled = queue(a=1, b=2)

    filled.forget(A)
    filled.forget(C)

    assert filled.take_due(NOON + timedelta(hours=1)) == [B]


def test_the_queue_is_as_long_as_there_are_instances() -> None:
    """A certificate that is replaced all the time leaves nothing behind."""
    filled = RenewalQueue()

    for minutes in range(1000):
        filled.add(A, NOON + timedelta(minutes=minutes))

    assert len(filled._heap) == 1


def test_what_is_tried_again_and_again_leaves_nothing_behind() -> None:
    """A retry comes before the renewal, whose moment does not stay once for each of them."""
    filled = queue(a=60)

    for _ in range(1000):
        filled.add(B, NOON + timedelta(minutes=90))
        filled.add(B, NOON + timedelta(minutes=1))
        assert filled.take_due(NOON + timedelta(minutes=1)) == [B]

    assert len(filled._heap) <= 2 * len("ab")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 20)),
            st.tuples(st.just("forget"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("take"), st.just(""), st.integers(0, 20)),
        )
    )
)
def test_the_queue_does_what_a_plain_map_would(steps: list[tuple[str, str, int]]) -> None:
    """Any sequence of steps has the same outcome as with a map from instance to moment."""
    filled, model = RenewalQueue(), dict[str, int]()
    for what, name, minutes in steps:
        at = NOON + timedelta(minutes=minutes)
        if what == "add":
            filled.add(InstanceGuid(name), at)
            model[name] = min(minutes, model.get(name, minutes))
        elif what == "forget":
            filled.forget(InstanceGuid(name))
            model.pop(name, None)
        else:
            due = {each for each, moment in model.items() if moment <= minutes}
            assert sorted(filled.take_due(at)) == sorted(due)
            model = {each: moment for each, moment in model.items() if each not in due}
        expected = NOON + timedelta(minutes=min(model.values())) if model else None
        assert filled.next() == expected


FLEET = [InstanceGuid(f"instance-{number}") for number in range(5000)]


def test_a_fleet_that_started_together_renews_spread_over_time() -> None:
    """5,000 certificates of one second are renewed one in 1.7 s, and never all together again."""
    profile = Profile()
    filled = RenewalQueue()
    for each in FLEET:
        filled.add(each, renew_at(*profile.window(NOON, NOON, NOON + timedelta(days=99)), each))
    now, by_minute = NOON, Counter[int]()
    rounds = Counter[InstanceGuid]()
    while min(rounds.values(), default=0) < 3 or len(rounds) < len(FLEET):
        now += timedelta(seconds=10)
        for each in filled.take_due(now):
            rounds[each] += 1
            by_minute[int((now - NOON).total_seconds()) // 60] += 1
            window = profile.window(now, NOON, NOON + timedelta(days=99))
            filled.add(each, renew_at(*window, each))

    assert max(by_minute.values()) < 3 * len(FLEET) / 144  # that many minutes have to do
    first_round = [minute for minute in by_minute if minute < 15 * 60]
    assert len(first_round) > 120


def test_what_fails_is_tried_again_after_growing_pauses() -> None:
    """They double up to a minute, and start anew once it worked; the jitter shortens them only."""
    retries, now, pauses = Retries(), NOON, []
    for _ in range(8):
        at = retries.failed(A, "c2c", now)
        pauses.append(at - now)
        now = at

    for times, pause in enumerate(pauses):
        longest = min(LONGEST_RETRY, RETRY * 2**times)
        assert longest * (1 - RETRY_JITTER) <= pause <= longest
    retries.succeeded(A, "c2c")
    assert retries.failed(A, "c2c", now) - now <= RETRY


def test_who_tries_in_between_does_not_put_it_off() -> None:
    """A change that fails while a retry is due moves nothing, and each secret counts by itself."""
    retries = Retries()
    at = retries.failed(A, "c2c", NOON)

    assert retries.failed(A, "c2c", NOON + timedelta(seconds=1)) == at
    assert retries.failed(A, "id", at) - at <= RETRY
    retries.forget(A)
    assert retries.failed(A, "c2c", NOON) == at


def test_what_failed_while_the_clock_was_ahead_is_soon_tried_again() -> None:
    """However far it is set back: no retry is further away than the longest pause."""
    retries, ahead = Retries(), NOON + timedelta(days=1)
    for _ in range(5):
        ahead = retries.failed(A, "c2c", ahead)

    at = retries.failed(A, "c2c", NOON)
    assert NOON < at <= NOON + LONGEST_RETRY
    assert retries.failed(A, "c2c", NOON + timedelta(seconds=1)) == at


def test_those_that_failed_together_come_back_apart() -> None:
    """A CA that cannot sign is not asked by the whole fleet in one moment."""
    retries = Retries()
    moments = {retries.failed(each, "c2c", NOON) for each in FLEET}

    assert len(moments) > 0.99 * len(FLEET)


def test_a_jump_is_told_from_time_that_passes() -> None:
    """Only what the wall clock moved beyond the other one counts."""
    jumps = Jumps(NOON, 5.0)

    assert jumps.by(NOON + timedelta(seconds=9), 14.0) == timedelta()
    assert jumps.by(NOON - timedelta(hours=1), 15.0) == timedelta(hours=-1, seconds=-10)
    assert jumps.by(NOON, 16.0) == timedelta(hours=1, seconds=-1)
    assert jumps.by(NOON + timedelta(seconds=1), 17.0) == timedelta()
