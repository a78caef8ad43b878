"""Waiters: who waits for whom, until when, and what is left of it afterwards."""

from __future__ import annotations

import asyncio

from control_plane.names import InstanceGuid
from control_plane.reconciler.progress import Waiters

A, B, C = (InstanceGuid(name) for name in "abc")
LONG = 30.0


class Arrivals:
    """Who is where they should be, as the test says."""

    def __init__(self, *arrived: InstanceGuid) -> None:
        """Start with these."""
        self.there = set(arrived)
        self.waiters = Waiters(self.there.__contains__)

    def arrive(self, *instances: InstanceGuid) -> None:
        """Let these arrive, and say that something happened to them."""
        self.there.update(instances)
        for instance in instances:
            self.waiters.note(instance)


async def begun(arrivals: Arrivals, *instances: InstanceGuid) -> asyncio.Task[frozenset[object]]:
    """Start to wait for some."""
    task = asyncio.create_task(arrivals.waiters.wait(instances, LONG))
    await asyncio.sleep(0)
    return task


async def test_nobody_waits_for_those_who_have_arrived() -> None:
    """The answer is there at once, and nobody is late."""
    arrivals = Arrivals(A, B)

    assert await arrivals.waiters.wait([A, B], 0) == frozenset()
    assert await arrivals.waiters.wait([], 0) == frozenset()


async def test_a_wait_ends_when_the_last_has_arrived() -> None:
    """In any order; one that had arrived before is not waited for again."""
    arrivals = Arrivals(C)
    task = await begun(arrivals, A, B, C)

    arrivals.arrive(B)
    await asyncio.sleep(0)
    assert not task.done()
    arrivals.arrive(A)

    assert await task == frozenset()
    assert arrivals.waiters._by_instance == {}


async def test_a_wait_may_ask_for_more_than_others() -> None:
    """One ends when an instance has arrived, another when something else is true of it too."""
    arrivals, more = Arrivals(), set[InstanceGuid]()
    task = await begun(arrivals, A)
    strict = asyncio.create_task(arrivals.waiters.wait([A], LONG, more.__contains__))
    await asyncio.sleep(0)

    arrivals.arrive(A)
    assert await task == frozenset()
    assert not strict.done()
    assert await arrivals.waiters.wait([A], 0, more.__contains__) == {A}
    more.add(A)
    arrivals.waiters.note(A)

    assert await strict == frozenset()
    assert arrivals.waiters._by_instance == {}


async def test_news_of_one_who_has_not_arrived_changes_nothing() -> None:
    """A note is only a reason to look again."""
    arrivals = Arrivals()
    task = await begun(arrivals, A)

    arrivals.waiters.note(A)
    arrivals.waiters.note(B)
    await asyncio.sleep(0)

    assert not task.done()
    arrivals.arrive(A)
    assert await task == frozenset()


async def test_the_late_are_named_when_the_time_is_up() -> None:
    """Those who arrived in time are not among them, and nothing is left behind."""
    arrivals = Arrivals()
    task = asyncio.create_task(arrivals.waiters.wait([A, B], 0.02))
    await asyncio.sleep(0)

    arrivals.arrive(A)

    assert await task == {B}
    assert arrivals.waiters._by_instance == {}


async def test_several_wait_for_the_same_instance() -> None:
    """Each has its own list, and one that gives up does not keep the others from hearing."""
    arrivals = Arrivals()
    first, second = await begun(arrivals, A), await begun(arrivals, A, B)
    third = await begun(arrivals, A)

    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    arrivals.arrive(A)

    assert await first == frozenset()
    assert not second.done()
    arrivals.arrive(B)
    assert await second == frozenset()
    assert arrivals.waiters._by_instance == {}


async def test_a_wait_without_time_is_a_question() -> None:
    """With a timeout of 0 the answer is who has not arrived now."""
    assert await Arrivals(A).waiters.wait([A, B], 0) == {B}
