"""The feed: every watcher hears everything, or how much it missed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from control_plane.server.observability.feed import Fact, Feed, Kind, Told, Watcher
from tests.unit.reconciler.clocks import NOON, ManualClock, settled


async def heard(watcher: Watcher) -> Told:
    """Return what a watcher hears next."""
    told = await watcher.next()
    assert told is not None
    return told


def fact(number: int) -> Fact:
    """Return a fact that can be told from others."""
    return Fact(kind=Kind.SENT, sentence=str(number), revision=number)


async def test_watchers_hear_what_happens_while_they_watch() -> None:
    """In its order and with its moment, and nothing from before or after."""
    clock = ManualClock()
    feed = Feed(clock)
    feed.tell(fact(0))
    with feed.watch() as first, feed.watch() as second:
        feed.tell(fact(1))
        await clock.advance(1)
        feed.tell(fact(2))
        told = [await heard(first), await heard(first)]
        assert feed.watchers == 2
        assert (await heard(second)).fact == fact(1)
    feed.tell(fact(3))

    assert [each.fact for each in told] == [fact(1), fact(2)]
    assert [each.at for each in told] == [NOON, NOON + timedelta(seconds=1)]
    assert (feed.watchers, feed.lost) == (0, 0)


async def test_a_slow_watcher_loses_the_oldest_and_is_told_how_many() -> None:
    """Nobody waits for it: telling returns at once, and other watchers lose nothing."""
    feed = Feed(ManualClock())
    with feed.watch(size=2) as slow, feed.watch(size=10) as quick:
        for number in range(5):
            feed.tell(fact(number))
        told = [await heard(slow), await heard(slow)]
        assert [(await heard(quick)).lost for _ in range(5)] == [0] * 5

    assert [(each.fact.revision, each.lost) for each in told] == [(3, 3), (4, 0)]
    assert feed.lost == 3


async def test_a_watcher_waits_for_the_next_fact() -> None:
    """It returns with the fact, however often nothing happened before."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        for number in range(2):
            waiting = asyncio.create_task(heard(watcher))
            await settled()
            assert not waiting.done()
            feed.tell(fact(number))
            assert (await waiting).fact == fact(number)


async def test_at_the_end_nobody_is_left_waiting() -> None:
    """What was told before is still heard, and then there is no more, for late comers neither."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher, feed.watch() as behind:
        waiting = asyncio.create_task(watcher.next())
        await settled()
        feed.close()
        assert await waiting is None
        feed.tell(fact(1))
        assert (await heard(behind)).fact == fact(1)
        assert await behind.next() is None
    with feed.watch() as late:
        assert await late.next() is None
