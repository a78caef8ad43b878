"""What a fault leaves behind: nothing, or its test fails.

The rule of this module: it compares with what there was before, kind by kind, so that no allowance
is needed and what is left has a name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sized

from tests.envoy.harness import until

PATIENCE = 60.0
"""Seconds until it is all gone: Envoy's longest pause between two tries is 10, and 5 to connect."""


@contextlib.asynccontextmanager
async def nothing_left(streams: Callable[[], Sized] = tuple) -> AsyncIterator[None]:
    """Require that soon after the block streams and tasks are what they were before it.

    Args:
        streams: tells which are open, where there can be any.
    """
    before, tasks = len(streams()), _tasks()
    yield

    async def is_as_before() -> bool:
        return len(streams()) == before and not _tasks() - tasks

    try:
        await until(is_as_before, what="streams and tasks are as before", timeout=PATIENCE)
    except AssertionError as error:
        error.add_note(f"{len(streams())} streams, of {before}; more tasks: {_tasks() - tasks}")
        raise


def _tasks() -> Counter[str]:
    """Return how many tasks there are, by what they do."""
    return Counter(getattr(each.get_coro(), "__qualname__", "") for each in asyncio.all_tasks())
