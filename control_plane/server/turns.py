"""Long answers, which are made in slices.

The rule of this module: a caller that asks about a whole fleet does not hold up callers that ask
for less.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")


async def unhurried(items: Iterable[_Item], at_once: int) -> AsyncIterator[_Item]:
    """Yield each item, and give other tasks a turn before each slice.

    Args:
        items: what the parts of an answer are made of; they must not change meanwhile.
        at_once: how many items are in a slice, some milliseconds of work.
    """
    for number, item in enumerate(items):
        if number % at_once == 0:
            await asyncio.sleep(0)
        yield item
