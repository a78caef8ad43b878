"""Work that is not left half done if the task that waits for it is cancelled.

The rule of this module: the work is finished first, and only then is the cancellation passed on.
A second cancellation means to hurry: it is passed on at once, and the work is finished without
anybody who waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def undisturbed(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of some work; if cancelled meanwhile, finish the work, then pass it on.

    An exception of the work is raised here; if the waiting was cancelled, it is dropped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])  # does not cancel the task if this is cancelled too
        if not task.cancelled():
            task.exception()  # otherwise asyncio would log that it was never retrieved
        raise
