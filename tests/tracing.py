"""Which tests are traced for coverage: those of ``tests/unit``, but no search.

A test that is traced takes half as long again, a search twice or three times as long. Whatever rule
the pure packages keep has a unit test with an example that somebody wrote, and elsewhere most of
what is tested runs in other processes, which are not traced either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from coverage import Coverage
from hypothesis.stateful import run_state_machine_as_test


def is_traced(item: pytest.Item) -> bool:
    """Tell whether what a test runs counts as covered."""
    return item.path.is_relative_to(item.config.rootpath / "tests" / "unit") and not _searches(item)


def _searches(item: pytest.Item) -> bool:
    """Tell whether Hypothesis decides what a test does.

    Its plugin marks what has ``@given``, and not what runs a state machine.
    """
    if item.get_closest_marker("hypothesis") is not None:
        return True
    runs = run_state_machine_as_test.__name__
    return isinstance(item, pytest.Function) and runs in item.function.__code__.co_names


@contextmanager
def traced_or_not(item: pytest.Item) -> Iterator[None]:
    """Trace nothing in the block unless this test is traced."""
    tracing = None if is_traced(item) else Coverage.current()
    if tracing is not None:
        tracing.stop()
    try:
        yield
    finally:
        if tracing is not None:
            tracing.start()
