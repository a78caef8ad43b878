"""A store on a disk that is full for a while, and loops that work over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy.engine import Engine

from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.model.state import State
from control_plane.store.lock import DirectoryLock
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore
from tests.unit.model.world import entities_of


class Faulty(SqliteStore):
    """A store whose next commits fail.

    Attributes:
        failures: how many of them.
        failed: is set by each.
    """

    def __init__(self, path: Path, engine: Engine, lock: DirectoryLock) -> None:
        """Start with a disk that is not full."""
        super().__init__(path, engine, lock)
        self.failures = 0
        self.failed = asyncio.Event()

    @classmethod
    async def holding(cls, state: State, directory: Path) -> Self:
        """Make a store in a directory, and have it hold a State."""
        store = await cls.open(directory / "data" / "c2c.db")
        await store.commit(Change(puts=entities_of(state)))
        return store

    async def commit(
        self,
        change: Change,
        meanwhile: Callable[[], None] | None = None,
        records: Sequence[IssuedRecord] = (),
    ) -> None:
        """Fail while the test says so."""
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise StorageError("the disk is full")
        await super().commit(change, meanwhile, records)


@asynccontextmanager
async def working(store: Faulty, *loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops over a store until the block ends, and close it after them."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
