"""A store on a disk that is full for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.store.lock import DirectoryLock
from control_plane.store.sqlite import SqliteStore


class Faulty(SqliteStore):
    """A store whose next commits fail.

    Attributes:
        failures: how many of them.
        failed: is set by each.
    """

    def __init__(self, path: Path, engine: AsyncEngine, lock: DirectoryLock) -> None:
        """Start with a disk that is not full."""
        super().__init__(path, engine, lock)
        self.failures = 0
        self.failed = asyncio.Event()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Fail while the test says so."""
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise StorageError("the disk is full")
        await super().commit(changes)
