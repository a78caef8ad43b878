"""Waiting for what nobody tells of, and for what may never happen."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from tests.xds_client import PATIENCE

T = TypeVar("T")

ENDS = 90.0
"""Seconds after which a process does not end any more: each of ours has shorter limits for that.
The longest is that of a ``c2c`` which a test tells to wait for 60 s."""


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Return once a condition holds that nobody tells of; fail where it never does."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:.0f} s: {what}") from None


async def ended(process: Process, what: str) -> int:
    """Return the exit code of a process once it has ended; kill one that does not, and fail."""
    return await _before_the_end(process, process.wait(), what)


async def output(process: Process, what: str) -> tuple[bytes, bytes]:
    """Return what a process writes until it ends; kill one that does not, and fail."""
    return await _before_the_end(process, process.communicate(), what)


async def _before_the_end(process: Process, result: Awaitable[T], what: str) -> T:
    try:
        async with asyncio.timeout(ENDS):
            return await result
    except TimeoutError:
        # asyncio tells of the end of a process after that of its pipes.
        how = "runs" if process.returncode is None else "ended, but its output is still open"
        with suppress(ProcessLookupError):
            process.kill()
        raise AssertionError(f"after {ENDS:.0f} s {what} {how}") from None
