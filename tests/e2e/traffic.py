"""Clients that keep calling an instance while a test changes things, and remember every failure."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.e2e.site import Instance
from tests.envoy.harness import until

PAUSE = 0.01
"""Between two calls of one client, so that it leaves the processor to others, in seconds."""


@dataclass(slots=True)
class Calls:
    """What one client saw.

    Attributes:
        done: how many calls succeeded.
        failures: what went wrong, and when after the start, in seconds.
        slowest: the longest call, in seconds.
    """

    done: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    started: float = field(default_factory=time.monotonic)

    async def make(self, call: Callable[[], Awaitable[None]]) -> None:
        """Make one call after another until cancelled."""
        while True:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(10):
                    await call()
                self.done += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to know
                self.failures.append(f"{begun - self.started:.3f}: {error!r}")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            await asyncio.sleep(PAUSE)

    async def more(self, number: int = 3) -> None:
        """Wait for some more calls that began after this one."""
        target = self.done + len(self.failures) + number + 1

        async def enough() -> bool:
            return self.done + len(self.failures) >= target

        await until(enough, what=f"{number} more calls")


@contextlib.asynccontextmanager
async def calling(call: Callable[[], Awaitable[None]]) -> AsyncIterator[Calls]:
    """Make one call after another until the block ends; some after all that happened in it."""
    calls = Calls()
    task = asyncio.create_task(calls.make(call))
    try:
        yield calls
        await calls.more()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def fresh_requests(
    instance: Instance, host: str, source: str
) -> contextlib.AbstractAsyncContextManager[Calls]:
    """Send requests, each over a new connection that verifies the name."""

    async def call() -> None:
        status = await instance.get(host, source)
        assert status == 200, status

    return calling(call)


@contextlib.asynccontextmanager
async def kept_alive(instance: Instance, host: str, source: str) -> AsyncIterator[Calls]:
    """Send requests over one connection, which has to stay open."""
    async with instance.connect(host, source) as connection:

        async def call() -> None:
            answer = await connection.request()
            assert answer.status == 200, answer.status
            assert answer.header("connection") is None

        async with calling(call) as calls:
            yield calls
