"""The promise that no call fails: a test in which one does has no second chance.

Other tests of a whole run may fail because a busy machine is slow, so what failed is run once more,
alone. A call that failed once is what such a second run would hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pytest

BROKEN = "promises/broken"
"""Where pytest's cache has the tests in which a call failed."""

MARK = ("promise", "broken")
"""The property of a report whose test broke one."""


class Traffic(Protocol):
    """What a client saw that kept calling."""

    @property
    def failures(self) -> Sequence[object]:
        """What went wrong."""


class CallFailed(AssertionError):
    """A call failed, and none may."""


def none_failed(*traffic: Traffic) -> None:
    """Fail for good if any of these clients saw a failure."""
    failures = [failure for each in traffic for failure in each.failures]
    if failures:
        shown = "\n".join(map(str, failures[:10]))
        raise CallFailed(f"{len(failures)} calls failed, the first of them:\n{shown}")


class Record:
    """What a run keeps of its broken promises.

    Tests run in processes of their own (pytest-xdist), so a report carries what its test broke, and
    the one process that hears of all of them writes it down.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Forget earlier runs, unless this is the second chance of one."""
        self._cache = config.cache
        if not config.getoption("lf", default=True):
            self._cache.set(BROKEN, [])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a test in which a call failed."""
        if MARK in report.user_properties:
            broken = {*self._cache.get(BROKEN, []), report.nodeid}
            self._cache.set(BROKEN, sorted(broken))


def mark(report: pytest.TestReport, call: pytest.CallInfo[Any]) -> None:
    """Let the report of a test say that a call failed in it."""
    error = call.excinfo
    if error is None:
        return
    # Where calls are tasks of a group, it is among what the group raises.
    if isinstance(error.value, CallFailed) or (
        isinstance(error.value, BaseExceptionGroup) and error.group_contains(CallFailed)
    ):
        report.user_properties.append(MARK)


def refuse_second_chance(item: pytest.Item) -> None:
    """Fail a test in which a call failed before; `make test-again` says that this is asked for."""
    if item.nodeid in item.config.cache.get(BROKEN, []):
        pytest.fail("a call failed in it that must not fail: see the first run", pytrace=False)
