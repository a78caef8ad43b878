"""What runs beside the app, and what it costs when it breaks: nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from control_plane.sidecar.race import first_of, within
from control_plane.sidecar.services import LONG_SECONDS, keep_running
from tests.unit.reconciler.clocks import ManualClock, settled


@dataclass(slots=True)
class Broken:
    """A service that fails at once, so many times."""

    name: str
    failures: int
    starts: int = 0

    async def run(self) -> None:
        """Fail, or run for ever."""
        self.starts += 1
        if self.starts <= self.failures:
            raise ZeroDivisionError("a defect")
        await asyncio.get_running_loop().create_future()


async def test_a_service_that_breaks_is_started_anew_and_disturbs_no_other() -> None:
    """A defect is in the log with its traceback, the pauses grow, and no other service notices."""
    clock, broken, sound = ManualClock(), Broken("broken", 2), Broken("sound", 0)
    with structlog.testing.capture_logs() as logs:
        running = asyncio.ensure_future(
            keep_running((broken, sound), clock=clock, draw=lambda: 1.0)
        )
        starts = []
        for pause in (0, 0.5, 0.9, 0.1):
            await clock.advance(pause)
            starts.append((broken.starts, sound.starts))
    running.cancel()
    await asyncio.wait([running])

    assert starts == [(1, 1), (2, 1), (2, 1), (3, 1)]
    assert [(each["event"], each["service"]) for each in logs] == [
        ("sidecar.service_failed", "broken")
    ] * 2
    assert all(each["exc_info"] for each in logs)


@dataclass(slots=True)
class Failing:
    """A service that fails after as long as it is told, again and again."""

    clock: ManualClock
    name: str = "failing"
    seconds: float = 0
    starts: int = 0

    async def run(self) -> None:
        """Fail after a while."""
        self.starts += 1
        await self.clock.sleep(self.seconds)
        raise ZeroDivisionError("a defect")


async def test_a_service_that_ran_for_long_is_started_again_soon() -> None:
    """The pauses of a bad hour are not those of a defect days later."""
    clock = ManualClock()
    failing = Failing(clock)
    with structlog.testing.capture_logs():
        running = asyncio.ensure_future(keep_running((failing,), clock=clock, draw=lambda: 1.0))
        await clock.advance(0)
        for _ in range(600):
            await clock.advance(1)
        failing.seconds, before = LONG_SECONDS, failing.starts
        while failing.starts == before:
            await clock.advance(1)
        await clock.advance(LONG_SECONDS + 1)
    running.cancel()
    await asyncio.wait([running])

    assert failing.starts == before + 2


async def test_what_lost_a_race_does_not_go_on() -> None:
    """Nothing that was waited for is left in the background."""
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    await first_of(slow(), asyncio.sleep(0))

    assert ended == ["slow"]


async def test_a_race_that_fails_says_so() -> None:
    """An error of the first is an error of the race."""

    async def fails() -> None:
        raise ConnectionResetError

    raised = await asyncio.gather(first_of(fails(), asyncio.sleep(60)), return_exceptions=True)

    assert isinstance(raised[0], ConnectionResetError)


async def test_a_hurry_ends_a_wait() -> None:
    """A second signal is not made to wait for what the first one began."""
    hurry = asyncio.Event()
    waiting = asyncio.ensure_future(within(60, hurry, asyncio.sleep(60)))
    await settled()
    assert not waiting.done()

    hurry.set()

    await waiting
