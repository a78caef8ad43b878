"""What holds for every test: how Hypothesis searches, how coroutines run, and that it ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Generator, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

from tests import promises, tracing

# A test that draws other examples on each run finds more, but only where somebody can look into it.
settings.register_profile("developer", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_configure(config: pytest.Config) -> None:
    """Keep a record of broken promises, in the one process that hears of all tests."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(promises.Record(config))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that broke a promise has no second chance in ``make test-again``."""
    if os.environ.get("C2C_TEST_AGAIN"):
        promises.refuse_second_chance(item)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Have no test log as another one has asked for."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have the report of a test that broke a promise say so."""
    report = yield
    promises.mark(report, call)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Leave a test that is not traced out of coverage, with its fixtures."""
    with tracing.traced_or_not(item):
        return (yield)


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


async def _bounded(test: Awaitable[None], seconds: float | None) -> None:
    async with asyncio.timeout(seconds):
        await test
