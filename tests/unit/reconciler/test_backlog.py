"""Who waits for a plan, without a second process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from control_plane.names import InstanceGuid
from control_plane.reconciler.backlog import CROWD, RUSH_SECONDS, Backlog
from tests.unit.reconciler.clocks import ManualClock, settled

A, B = InstanceGuid("a"), InstanceGuid("b")


@asynccontextmanager
async def working(backlog: Backlog, plan: Callable[[InstanceGuid], None]) -> AsyncIterator[None]:
    """Make plans until the block ends."""
    work = asyncio.create_task(backlog.work(lambda _: {}, plan))
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
    """Either is, and neither is for ever."""
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
