"""The system clock: what the shell may rely on when it asks for the time."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import control_plane
from control_plane.clock import Clock, SystemClock

PACKAGE = Path(control_plane.__file__).parent


def test_nobody_else_asks_what_time_it_is() -> None:
    """But for what a person runs once, all of it can be tested with a clock that a test moves."""
    asks = re.compile(r"\bdatetime\.(now|utcnow|today)\(|\btime\.(monotonic|time)(_ns)?\(")
    sources = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    asking = {each for each in sources if asks.search((PACKAGE / each).read_text("utf-8"))}

    assert {each.parts[0] for each in asking} == {"clock.py", "cli", "demo"}


def test_now_is_aware_and_in_utc() -> None:
    """The wall clock answers in UTC, so that no local time zone gets into a certificate."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    after = datetime.now(UTC)

    assert now.utcoffset() == timedelta(0)
    assert before <= now <= after


def test_monotonic_time_never_goes_backwards() -> None:
    """A later reading of the monotonic clock is never smaller than an earlier one."""
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]

    assert readings == sorted(readings)


def test_sleep_lets_that_much_monotonic_time_pass() -> None:
    """Waiting takes as long as was asked for, and other tasks run meanwhile."""

    async def scenario() -> tuple[float, bool]:
        clock: Clock = SystemClock()
        other = asyncio.create_task(asyncio.sleep(0))
        before = clock.monotonic()
        await clock.sleep(0.02)
        return clock.monotonic() - before, other.done()

    elapsed, other_ran = asyncio.run(scenario())

    # The event loop may fire a timer up to one tick of its clock early.
    assert elapsed >= 0.019
    assert other_ran
