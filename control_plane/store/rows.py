"""Which row of which table stands for an entity.

The rule of this module: a row has the fields of its entity, and the types of the columns convert
the values. ``entity_of(kind, row_of(entity))`` is the entity again. A value that is impossible
(such as an unknown protocol) is a ValueError when the row is read; the store adds which database it
is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Select, Table, select

from control_plane.model.entities import (
    App,
    AppKey,
    DrainingCaller,
    DrainingPort,
    Entity,
    Instance,
    JoinToken,
    NetworkPolicy,
    OperatorCertificate,
    RouteMapping,
    Tombstone,
)
from control_plane.store import schema
from control_plane.store.protocol import IssuedRecord

Row = Mapping[Any, Any]
"""A row by the keys of its columns."""

_Kind = TypeVar("_Kind")

TABLES: Mapping[type[Entity], Table] = {
    App: schema.APPS,
    Instance: schema.INSTANCES,
    RouteMapping: schema.ROUTE_MAPPINGS,
    NetworkPolicy: schema.NETWORK_POLICIES,
    JoinToken: schema.JOIN_TOKENS,
    OperatorCertificate: schema.OPERATOR_CERTIFICATES,
    Tombstone: schema.TOMBSTONES,
    DrainingPort: schema.DRAINING_PORTS,
    DrainingCaller: schema.DRAINING_CALLERS,
}
"""The table of each kind of entity; apps come first, since everything else refers to them."""


def rows_of(table: Table) -> Select[Any]:
    """Return the query for the rows of a table."""
    return select(*(column.label(column.key) for column in table.columns))


def row_of(entity: Entity | IssuedRecord) -> Row:
    """Return the row of an entity, or of the record of a certificate."""
    row = _values_of(entity)
    if isinstance(entity, App):
        del row["key"]
        row |= _values_of(entity.key)
    return row


def entity_of(kind: type[_Kind], row: Row) -> _Kind:
    """Return what a row of this kind stands for."""
    values = dict(row)
    if kind is App:
        values["key"] = AppKey(*(values.pop(each.name) for each in fields(AppKey)))
    return kind(**values)


def _values_of(entity: Entity | AppKey | IssuedRecord) -> dict[str, Any]:
    return {each.name: getattr(entity, each.name) for each in fields(entity)}
