"""The default store: one SQLite file in the data directory.

The rule of this module: each call is one transaction, which is on disk when the call returns. Rows
that change are deleted first and then inserted, and references are checked at the end. So it does
not matter in which order a batch of commands passed an address from one instance to another.

The database is used in a thread of its own, by one transaction after another. The event loop hands
over each transaction as a whole, and is woken once, at its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from control_plane import log_events
from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.model.entities import Entity
from control_plane.store.engine import engine_for
from control_plane.store.files import (
    check_private,
    private_directory,
    why_unwritable,
    write_private,
)
from control_plane.store.lock import DirectoryLock
from control_plane.store.migrations import migrate
from control_plane.store.protocol import IssuedRecord
from control_plane.store.rows import TABLES, Row, entity_of, rows_of
from control_plane.store.schema import ISSUED
from control_plane.store.statements import (
    WITHOUT_INSTANCE,
    delete_entities,
    forget_issued,
    forget_strangers,
    insert_entities,
    record,
)
from control_plane.store.unusable import ROOM, damaged, reason_of, unusable

T = TypeVar("T")

_TURN_SECONDS = 30.0
"""How long a transaction waits for those before it: as long as ``c2c`` waits for an answer."""


class SqliteStore:
    """Keeps State in an SQLite database of mode 0600, in a directory that no other process uses."""

    def __init__(self, path: Path, engine: Engine, lock: DirectoryLock) -> None:
        """Use ``open`` instead, which checks what is there."""
        self._path = path
        self._engine = engine
        self._lock = lock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    @classmethod
    async def open(cls, path: Path, *, was_used: bool = False) -> Self:
        """Open the database; make it if there is none, or bring it to our schema.

        Args:
            path: the file; an operator who moved it away wants to start with nothing.
            was_used: whether there is something that was made after a database existed. In that
                case a database that is empty was lost, as in a copy without ``-wal``.

        Raises:
            ConfigurationError: another process uses the directory; or others may read the file or
                enter the directory; or the database is damaged or of a newer release.
        """
        private_directory(path.parent)
        lock = DirectoryLock(path.parent)
        obstacle = why_unwritable(path.parent, ROOM)
        engine = engine_for(path, share=not obstacle)
        store = cls(path, engine, lock)
        try:
            may_be_empty = _make_private(path) or not was_used
            await store._reading(partial(store._prepare, may_be_empty=may_be_empty))
        except BaseException:
            await store.close()
            raise
        if obstacle:
            reason = f"{obstacle}: changes are refused until {str(path.parent)!r} can be written to"
            structlog.get_logger(__name__).error(log_events.STORE_FAILED, reason=reason)
        return store

    async def load(self) -> list[Entity]:
        """Return every entity, apps first."""

        def work(connection: Connection) -> list[Entity]:
            entities: list[Entity] = []
            for kind, table in TABLES.items():
                rows = connection.execute(rows_of(table))
                entities += self._read(rows.mappings(), kind)
            return entities

        return await self._reading(work)

    async def commit(
        self,
        change: Change,
        meanwhile: Callable[[], None] | None = None,
        records: Sequence[IssuedRecord] = (),
    ) -> None:
        """Write a change; ``meanwhile`` is called just before SQLite's COMMIT."""
        loop = asyncio.get_running_loop()

        def work(connection: Connection) -> None:
            record(connection, records)
            delete_entities(connection, [*change.drops, *change.puts])
            insert_entities(connection, change.puts)
            forget_issued(connection, change.drops)
            forget_strangers(connection, records)
            if meanwhile is not None:
                loop.call_soon_threadsafe(meanwhile)

        await self._writing(work)

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Remember certificates; each replaces the one before of the same instance and secret."""

        def work(connection: Connection) -> None:
            record(connection, records)
            forget_strangers(connection, records)

        if records:
            await self._writing(work)

    async def issued(self) -> list[IssuedRecord]:
        """Return the newest record of each secret of each instance."""

        def work(connection: Connection) -> list[IssuedRecord]:
            rows = connection.execute(rows_of(ISSUED).order_by(*ISSUED.primary_key))
            return self._read(rows.mappings(), IssuedRecord)

        return await self._reading(work)

    async def close(self) -> None:
        """Let go of the database and the directory, after the transactions that wait."""
        try:
            await asyncio.wrap_future(self._thread.submit(self._engine.dispose))
        finally:
            self._thread.shutdown(wait=False)
            self._lock.release()

    def _prepare(self, connection: Connection, *, may_be_empty: bool) -> None:
        if not may_be_empty and not _has_tables(connection):
            raise damaged(self._path, "it is empty, and there is a CA beside it")
        verdict = connection.scalar(text("PRAGMA quick_check(1)"))
        if verdict != "ok":
            raise damaged(self._path, verdict)
        try:
            migrate(connection, str(self._path))
        except ValueError as error:
            raise damaged(self._path, str(error)) from error
        connection.execute(WITHOUT_INSTANCE)
        if row := connection.execute(text("PRAGMA foreign_key_check")).first():
            raise damaged(
                self._path, f"a row of {row[0]} refers to one of {row[2]} that is missing"
            )

    async def _reading(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._transact(work)
        except SQLAlchemyError as error:
            raise unusable(self._path, error) from error

    async def _writing(self, work: Callable[[Connection], None]) -> None:
        try:
            await self._transact(work)
        except SQLAlchemyError as error:
            raise StorageError(f"the change was not written: {reason_of(error)}") from error

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        """Do this work in one transaction, after the transactions before it.

        Work that was handed over is done, whether its caller still waits for it or not.

        Raises:
            StorageError: the turn of this work did not come in time.
        """

        def transaction() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        handed_over = self._thread.submit(transaction)
        end = asyncio.wrap_future(handed_over)
        await asyncio.wait([end], timeout=_TURN_SECONDS)
        if not end.done() and handed_over.cancel():
            raise StorageError(
                "the change was not written: "
                f"what is written before it takes more than {_TURN_SECONDS:g} s"
            )
        return await end

    def _read(self, rows: Iterable[Row], kind: type[T]) -> list[T]:
        try:
            return [entity_of(kind, row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self._path, f"a row cannot be read: {error}") from error


def _has_tables(connection: Connection) -> bool:
    return bool(connection.scalar(text("SELECT count(*) FROM sqlite_master")))


def _make_private(path: Path) -> bool:
    """Create an empty file if there is none, and tell so; files that SQLite adds get its mode."""
    is_missing = not os.path.lexists(path)
    if is_missing:
        write_private(path, b"")
    check_private(path)
    return is_missing
