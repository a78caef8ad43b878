"""Waiting for what nobody tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.xds_client import PATIENCE


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Return once a condition holds that nobody tells of; fail where it never does."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:.0f} s: {what}") from None
