"""Refusals that are told together, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from structlog.testing import capture_logs

from control_plane.server.access.refusals import LINES_PER_MINUTE, TELLING_SECONDS, RefusalTally
from tests.unit.server_security.still_clock import StillClock


class Gate(StillClock):
    """A clock on which nothing is over before the test says so."""

    def __init__(self) -> None:
        """Start with the gate closed."""
        super().__init__()
        self.waits: list[float] = []
        self.open = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the test opens the gate."""
        self.waits.append(seconds)
        await self.open.wait()
        self.open.clear()


@asynccontextmanager
async def running(refusals: RefusalTally) -> AsyncIterator[None]:
    """Have refusals told until the block ends."""
    task = asyncio.create_task(refusals.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _turns() -> None:
    """Let every task run as far as it gets."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_line_tells_what_some_seconds_brought() -> None:
    """A thousand refusals are one line of each kind, with their number and a few names."""
    clock = Gate()
    refusals = RefusalTally(clock)
    with capture_logs() as lines:
        async with running(refusals):
            for number in range(1000):
                refusals.count("audit.enrollments_limited", f"10.0.0.{number % 20}")
            refusals.count("audit.renewals_limited", "instance-1")
            await _turns()
            assert (lines, clock.waits) == ([], [TELLING_SECONDS])
            clock.open.set()
            await _turns()
            assert [(each["event"], each["count"], len(each["by"])) for each in lines] == [
                ("audit.enrollments_limited", 1000, 10),
                ("audit.renewals_limited", 1, 1),
            ]


async def test_without_refusals_nothing_is_told() -> None:
    """The next one begins another span, and none is told twice."""
    clock = Gate()
    refusals = RefusalTally(clock)
    with capture_logs() as lines:
        async with running(refusals):
            refusals.count("audit.enrollments_limited", "10.0.0.1")
            await _turns()
            clock.open.set()
            await _turns()
            assert (len(lines), clock.waits) == (1, [TELLING_SECONDS])
            refusals.count("audit.enrollments_limited", "10.0.0.1")
            await _turns()
            assert clock.waits == [TELLING_SECONDS] * 2


async def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    """A stop of the server does not lose the number."""
    refusals = RefusalTally(Gate())
    with capture_logs() as lines:
        async with running(refusals):
            refusals.count("audit.enrollments_limited", "10.0.0.1")
            await _turns()
    (line,) = lines

    assert (line["count"], line["by"], line["log_level"]) == (1, ["10.0.0.1"], "warning")


def test_one_client_has_so_many_lines_of_a_kind() -> None:
    """Beyond that it is counted; another client, or another kind, has lines of its own."""
    clock = StillClock()
    refusals = RefusalTally(clock)

    def lines(event: str, who: str, times: int = 2 * LINES_PER_MINUTE) -> int:
        return sum(refusals.has_line(event, who) for _ in range(times))

    assert lines("audit.names_limited", "one") == LINES_PER_MINUTE
    assert lines("audit.names_limited", "two") == LINES_PER_MINUTE
    assert lines("audit.nodes_limited", "one", 1) == 1

    clock.time += timedelta(seconds=60 / LINES_PER_MINUTE)

    assert lines("audit.names_limited", "one") == 1
    with capture_logs() as told:
        refusals._tell()
    assert [(each["event"], each["count"], each["by"]) for each in told] == [
        ("audit.names_limited", 4 * LINES_PER_MINUTE - 1, ["one", "two"])
    ]
