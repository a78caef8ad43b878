"""The statements of which transactions consist.

The rule of this module: each function takes many rows, and has SQLite do the same with all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Table, bindparam, delete, exists, insert, select
from sqlalchemy.engine import Connection

from control_plane.model.entities import Entity, Instance
from control_plane.store.protocol import IssuedRecord
from control_plane.store.rows import TABLES, Row, row_of
from control_plane.store.schema import INSTANCES, ISSUED

WITHOUT_INSTANCE = delete(ISSUED).where(ISSUED.c.instance_guid.not_in(select(INSTANCES.c.guid)))
"""Deletes records that an older release wrote after their instances were removed."""

_OF_NOBODY = delete(ISSUED).where(
    ISSUED.c.instance_guid == bindparam("of"),
    ~exists().where(INSTANCES.c.guid == ISSUED.c.instance_guid),
)
"""Deletes the records of an instance if it does not exist."""


def _by_table(entities: Iterable[Entity]) -> dict[Table, list[Row]]:
    rows: dict[Table, list[Row]] = {}
    for entity in entities:
        rows.setdefault(TABLES[type(entity)], []).append(row_of(entity))
    return rows


def delete_entities(connection: Connection, entities: Iterable[Entity]) -> None:
    """Delete the rows of these entities, whatever version of them is there."""
    for table, rows in _by_table(entities).items():
        _delete_rows(connection, table, rows)


def insert_entities(connection: Connection, entities: Iterable[Entity]) -> None:
    """Insert the rows of these entities."""
    for table, rows in _by_table(entities).items():
        connection.execute(insert(table), rows)


def _delete_rows(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Delete the rows with the same primary keys as these."""
    columns = table.primary_key.columns
    statement = delete(table).where(
        *(column == bindparam(f"old_{column.key}") for column in columns)
    )
    keys = [{f"old_{column.key}": row[column.key] for column in columns} for row in rows]
    connection.execute(statement, keys)


def record(connection: Connection, records: Sequence[IssuedRecord]) -> None:
    """Write these records; each replaces the one before of the same instance and secret."""
    rows = {(record.instance_guid, record.secret): row_of(record) for record in records}
    if rows:
        _delete_rows(connection, ISSUED, rows.values())
        connection.execute(insert(ISSUED), list(rows.values()))


def forget_issued(connection: Connection, drops: Iterable[Entity]) -> None:
    """Delete the records of the instances among these entities."""
    gone = [{"gone": entity.guid} for entity in drops if isinstance(entity, Instance)]
    if gone:
        statement = delete(ISSUED).where(ISSUED.c.instance_guid == bindparam("gone"))
        connection.execute(statement, gone)


def forget_strangers(connection: Connection, records: Sequence[IssuedRecord]) -> None:
    """Delete these records as far as they came after their instances were removed.

    Nothing else would delete them before the next start.
    """
    if records:
        guids = {each.instance_guid for each in records}
        connection.execute(_OF_NOBODY, [{"of": guid} for guid in guids])
