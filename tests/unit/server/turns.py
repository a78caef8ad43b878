"""How often others have a turn while an answer is made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def counting(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """Return what some work returns, and how many turns others had meanwhile."""
    working, turns = asyncio.ensure_future(work), 0
    while not working.done():
        turns += 1
        await asyncio.sleep(0)
    return working.result(), turns
