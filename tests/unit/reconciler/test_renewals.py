"""The queue of renewals: each instance once, for the earliest of its moments."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.names import InstanceGuid
from control_plane.reconciler.renewals import RenewalQueue
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
