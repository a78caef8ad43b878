"""Work that is not left half done because whoever waits for it is cancelled.

The rule of this module: it is done to its end, and only then is the cancellation passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def undisturbed(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what some work returns; if the waiting is cancelled, pass that on once it is done.

    What it raises is raised here; nobody hears of it where the waiting was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])  # which leaves it alone if this is cancelled too
        if not task.cancelled():
            task.exception()  # or asyncio would complain that nobody asked for it
        raise
