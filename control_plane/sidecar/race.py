"""Waiting for whatever happens first.

The rule of this module: a wait that loses the race is cancelled and does not go on in the
background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return once one of these waits is over, and cancel the others.

    Raises:
        Exception: what the finished wait raised.
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
    """Return once the wait is over, the time is up, or ``hurry`` is set."""
    await first_of(wait, asyncio.sleep(seconds), hurry.wait())
