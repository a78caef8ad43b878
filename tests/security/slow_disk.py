"""A disk that is slow, so that what waits for it can be seen to wait, or full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """A store that writes nothing until it may."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def slows_down(self, patch: pytest.MonkeyPatch) -> None:
        """Have every write wait from now on, until the patch is undone."""
        commit = SqliteStore.commit

        async def slow(
            store: SqliteStore,
            change: Change,
            meanwhile: Callable[[], None],
            records: Sequence[IssuedRecord],
        ) -> None:
            self.begun.set()
            await self.go_on.wait()
            await commit(store, change, meanwhile, records)

        patch.setattr(SqliteStore, "commit", slow)

    def lets_one_pass(self) -> None:
        """Have the write that waits go on, and the next one wait again."""
        self.go_on.set()
        self.go_on.clear()


def fill_up(patch: pytest.MonkeyPatch) -> None:
    """Have every change be refused by a disk that is full, until the patch is undone.

    SQLite finds that out when it commits, thus after others were told that it does.
    """

    async def full(
        _store: SqliteStore,
        _change: Change,
        meanwhile: Callable[[], None],
        _records: Sequence[IssuedRecord],
    ) -> None:
        meanwhile()
        raise StorageError("the change was not written: database or disk is full")

    patch.setattr(SqliteStore, "commit", full)
