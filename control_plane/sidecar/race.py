"""Waiting for whatever happens first.

The rule of this module: nothing that was waited for goes on in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return once one of these is over; the others are cancelled.

    Raises:
        Exception: what the first raised.
    """
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        over, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in over:
        task.result()


async def within(seconds: float, hurry: asyncio.Event, wait: Coroutine[Any, Any, object]) -> None:
    """Return once something is over, its time is, or it has to be quick now."""
    await first_of(wait, asyncio.sleep(seconds), hurry.wait())
