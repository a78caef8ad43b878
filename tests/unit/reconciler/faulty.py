"""A store on a disk that is full for a while."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.store.sqlite import SqliteStore


class Faulty(SqliteStore):
    """A store whose next commits fail."""

    failures = 0

    async def commit(self, changes: Sequence[Change]) -> None:
        """Fail while the test says so."""
        if self.failures:
            self.failures -= 1
            raise StorageError("the disk is full")
        await super().commit(changes)
