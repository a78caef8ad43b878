"""Who waits for a plan, and who for certificates of the second process first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import MappingProxyType

from control_plane.ca import PortsRequest, Request
from control_plane.names import InstanceGuid
from control_plane.reconciler.backlog import CROWD, RUSH_SECONDS, Backlog
from control_plane.reconciler.certificates.issuers import Issuers
from tests.unit.reconciler.clocks import NOON, ManualClock, settled

A, B = InstanceGuid("a"), InstanceGuid("b")
DUE = {"id": PortsRequest("a", "app", "org", "space", "10.0.0.1")}


class Second(Issuers):
    """A second process that has room for everybody, and takes its time."""

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.given: list[tuple[InstanceGuid, Mapping[str, Request], datetime]] = []

    def has_room(self) -> bool:
        """Say that it has."""
        return True

    def give(self, instance: InstanceGuid, requests: Mapping[str, Request], now: datetime) -> None:
        """Take note of it."""
        self.given.append((instance, requests, now))


@asynccontextmanager
async def working(
    backlog: Backlog,
    plan: Callable[[InstanceGuid], None],
    due: Mapping[str, Request] = MappingProxyType({}),
) -> AsyncIterator[None]:
    """Make plans until the block ends.

    Args:
        plan: makes one.
        due: the certificates that each instance needs first.
    """
    work = asyncio.create_task(backlog.work(lambda _: due, plan))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_whoever_is_marked_again_and_again_waits_once() -> None:
    """Each has one plan, in the order in which they began to wait; who is dropped has none."""
    backlog, planned = Backlog(ManualClock(), None, lambda *_: None), list[InstanceGuid]()
    for each in (B, A, B, InstanceGuid("c")):
        backlog.add(each)
    backlog.drop(InstanceGuid("c"))
    async with working(backlog, planned.append):
        await settled()

    assert planned == [B, A]
    assert A not in backlog


async def test_who_is_marked_in_its_own_plan_gets_another() -> None:
    """A plan may lead to something that the same instance should have too."""
    backlog, planned = Backlog(ManualClock(), None, lambda *_: None), list[InstanceGuid]()

    def plan(instance: InstanceGuid) -> None:
        planned.append(instance)
        if len(planned) == 1:
            backlog.add(instance)

    backlog.add(A)
    async with working(backlog, plan):
        await settled()

    assert planned == [A, A]


async def test_many_that_wait_or_came_are_a_crowd() -> None:
    """Many that wait are a crowd, and many that came within some seconds; either ends."""
    clock = ManualClock()
    backlog = Backlog(clock, None, lambda *_: None)
    for number in range(CROWD):
        assert not backlog.is_crowd()
        backlog.add(InstanceGuid(f"i{number}"))
    assert backlog.is_crowd()
    backlog.drop(InstanceGuid("i0"))
    assert not backlog.is_crowd()
    for _ in range(CROWD):
        backlog.came()
    assert backlog.is_crowd()
    await clock.advance(RUSH_SECONDS + 1)
    assert not backlog.is_crowd()


async def test_who_is_with_the_second_process_waits_and_is_not_given_again() -> None:
    """Whatever changes meanwhile: once it is back, its plan is made of how things are then."""
    second, planned, back = Second(), list[InstanceGuid](), list[InstanceGuid]()
    backlog = Backlog(ManualClock(), second, lambda instance, _: back.append(instance))
    for _ in range(CROWD):
        backlog.came()
    backlog.add(A)
    async with working(backlog, planned.append, DUE):
        await settled()
        assert A in backlog
        backlog.add(A)
        await settled()
        assert (second.given, planned, back) == ([(A, DUE, NOON)], [], [])

        backlog.take_back(A, {})
        await settled()

    assert A not in backlog
    assert (second.given, planned, back) == ([(A, DUE, NOON)], [], [A])


async def test_one_alone_is_not_given_to_the_second_process() -> None:
    """To make its certificates here takes less time than to ask."""
    second, planned = Second(), list[InstanceGuid]()
    backlog = Backlog(ManualClock(), second, lambda *_: None)
    backlog.add(A)
    async with working(backlog, planned.append, DUE):
        await settled()

    assert (second.given, planned) == ([], [A])


async def test_others_have_a_turn_before_all_plans_are_made() -> None:
    """Streams and commands do not wait for a crowd."""
    clock, order = ManualClock(), list[str]()
    backlog = Backlog(clock, None, lambda *_: None)

    def plan(instance: InstanceGuid) -> None:
        order.append(instance)
        clock._now += timedelta(seconds=1)

    async def other() -> None:
        for _ in range(9):
            await asyncio.sleep(0)
            order.append("another")

    for each in (A, B):
        backlog.add(each)
    async with working(backlog, plan):
        await other()

    assert order[order.index(A) + 1] == "another"
    assert B in order
