"""What holds for every test: how Hypothesis searches, how coroutines run, and that it ends."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Generator
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import settings

from tests import promises

# A test that draws other examples on each run finds more, but only where somebody can look into it.
settings.register_profile("developer", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

RUNNING = "running/test"
"""Where pytest's cache has the test that runs; `.ci/run` reads it."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget which promises were broken in earlier runs."""
    promises.begin(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep on the disk which test runs: a process that ends amid it cannot say any more.

    One that broke a promise has no second chance in ``make test-again``.
    """
    _note_running(item.config, item.nodeid)
    if os.environ.get("C2C_TEST_AGAIN"):
        promises.refuse_second_chance(item)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say that no test runs any more."""
    _note_running(session.config, "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a test that broke a promise."""
    report = yield
    promises.note(item, call)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Leave what Hypothesis runs out of coverage.

    Whatever rule there is has an example that somebody wrote, and a search that is traced tries a
    third of what it could try in the same time.
    """
    is_search = item.get_closest_marker("hypothesis") is not None
    tracing = Coverage.current() if is_search else None
    if tracing is not None:
        tracing.stop()
    try:
        return (yield)
    finally:
        if tracing is not None:
            tracing.start()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on an event loop of its own; leave any other to pytest.

    One that hangs is cancelled shortly before pytest-timeout would end it amid whatever it does.
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    coroutine = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    seconds = float(pyfuncitem.config.getini("timeout"))
    asyncio.run(_bounded(coroutine, 0.9 * seconds if seconds else None))
    return True


def _note_running(config: pytest.Config, test: str) -> None:
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(RUNNING, test)


async def _bounded(test: Awaitable[None], seconds: float | None) -> None:
    async with asyncio.timeout(seconds):
        await test
