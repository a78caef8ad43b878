"""A disk that takes its time to confirm what files are written to it; databases have another."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import pytest

PATIENCE = 10.0

T = TypeVar("T")


@dataclass(slots=True)
class Disk:
    """A disk that confirms nothing before the test says so."""

    is_asked: threading.Event
    may_confirm: threading.Event
    is_alone: bool = False

    def sync(self, _: int) -> None:
        """Take as long as the test wants."""
        self.is_asked.set()
        self.is_alone = self.is_alone or not self.may_confirm.wait(PATIENCE)

    @classmethod
    def of(cls, patch: pytest.MonkeyPatch) -> Self:
        """Return the disk that files are written to, which confirms until the test says so."""
        made = cls(threading.Event(), threading.Event())
        made.may_confirm.set()
        patch.setattr(os, "fsync", made.sync)
        return made


@asynccontextmanager
async def busy(disk: Disk, keeping: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Have something be kept that the disk does not confirm before the block ends."""
    disk.is_asked.clear()
    disk.may_confirm.clear()
    task = asyncio.ensure_future(keeping)
    try:
        assert await asyncio.to_thread(disk.is_asked.wait, PATIENCE)
        assert not disk.is_alone, "nobody else had a turn"
        yield task
    finally:
        disk.may_confirm.set()
