"""How SQLite is used: by one connection, with a write-ahead log, and by transactions that we begin.

The rule of this module: what a transaction wrote is on the disk when it ends (synchronous=FULL),
and others may read meanwhile, to make a backup.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection


def engine_for(path: Path, *, share: bool) -> Engine:
    """Return an engine with one connection.

    Args:
        path: the database.
        share: whether other programs may read the database meanwhile, to make a backup. That takes
            a file of shared memory, for which a full disk has no room.
    """
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)
    if not share:
        event.listen(engine, "connect", _have_alone)
    event.listen(engine, "connect", _set_up_connection)
    event.listen(engine, "begin", _begin)
    return engine


def _have_alone(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA locking_mode = EXCLUSIVE")
    cursor.close()


def _set_up_connection(connection: DBAPIConnection, _record: object) -> None:
    # The driver would begin transactions by itself, and would not do so before a CREATE TABLE.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
