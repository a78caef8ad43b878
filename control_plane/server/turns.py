"""Long answers, which are made in slices.

The rule of this module: whoever asks about a whole fleet holds up nobody who asks for less.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")


async def unhurried(items: Iterable[_Item], at_once: int) -> AsyncIterator[_Item]:
    """Yield each item, and give way to others before each slice.

    Args:
        items: each makes a part of an answer; they must not change meanwhile.
        at_once: how many are in a slice, some milliseconds of work.
    """
    for number, item in enumerate(items):
        if number % at_once == 0:
            await asyncio.sleep(0)
        yield item
