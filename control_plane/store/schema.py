"""The tables.

The rule of this module: the tables here are what all steps of ``store.migrations`` together result
in; a test compares the two. The key of a column is the name of a field, and its type converts the
value of the field to what SQLite keeps, and back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from control_plane.model.entities import (
    AppProtocol,
    HealthCheckType,
    InstanceStatus,
    OperatingSystem,
    Transport,
)

_METADATA = MetaData()


class _AsText(TypeDecorator[Any]):
    """Values that are kept as text; None is NULL."""

    impl: type[TypeEngine[Any]] = Text
    cache_ok = True

    def __init__(self, write: Callable[[Any], object], read: Callable[[Any], object]) -> None:
        super().__init__()
        self.write = write
        self.read = read

    def process_bind_param(self, value: object, _dialect: object) -> object:
        return None if value is None else self.write(value)

    def process_result_value(self, value: object, _dialect: object) -> object:
        return None if value is None else self.read(value)


class _AsJson(_AsText):
    """Values that are kept as JSON."""

    impl = JSON
    cache_ok = True


def _choice(kind: type[StrEnum]) -> _AsText:
    return _AsText(str, kind)


def _tuple_of(kind: Callable[[Any], object]) -> _AsJson:
    return _AsJson(list, lambda values: tuple(map(kind, values)))


_MOMENT = _AsText(datetime.isoformat, datetime.fromisoformat)
_SERIAL = _AsText("{:x}".format, lambda text: int(text, 16))
"""A number of up to 160 bits, which no column of integers holds."""


def _app_guid(name: str, *, primary_key: bool = False) -> Column[str]:
    """Return a column that refers to an app.

    The reference is checked when the transaction ends, so rows may be written in any order.
    """
    reference = ForeignKey("apps.guid", deferrable=True, initially="DEFERRED")
    return Column(name, Text, reference, primary_key=primary_key, nullable=False)


SCHEMA_VERSION = Table("schema_version", _METADATA, Column("version", Integer, nullable=False))

APPS = Table(
    "apps",
    _METADATA,
    Column("guid", Text, primary_key=True, nullable=False),
    Column("org", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("ports", _tuple_of(int), nullable=False),
    Column("c2c_port", Integer),
    Column("protocol", _choice(AppProtocol), nullable=False),
    Column("os", _choice(OperatingSystem), nullable=False),
    Column("ssh", Boolean, nullable=False),
    Column("health_check_type", _choice(HealthCheckType), nullable=False, server_default="port"),
    UniqueConstraint("org", "space", "name"),
)

INSTANCES = Table(
    "instances",
    _METADATA,
    Column("guid", Text, primary_key=True, nullable=False),
    _app_guid("app_guid"),
    Column("instance_index", Integer, key="index", nullable=False),
    Column("address", Text, nullable=False, unique=True),
    Column("app_address", Text, nullable=False),
    Column("status", _choice(InstanceStatus), nullable=False),
    Column("has_sidecar", Boolean, nullable=False, server_default="0"),
    Column("has_resolver", Boolean, nullable=False, server_default="0"),
    UniqueConstraint("app_guid", "index"),
)

ROUTE_MAPPINGS = Table(
    "route_mappings",
    _METADATA,
    Column("hostname", Text, primary_key=True, nullable=False),
    _app_guid("app_guid", primary_key=True),
    Index("route_mappings_by_app", "app_guid"),
)

NETWORK_POLICIES = Table(
    "network_policies",
    _METADATA,
    _app_guid("source", primary_key=True),
    _app_guid("destination", primary_key=True),
    Column("transport", _choice(Transport), primary_key=True, nullable=False),
    Column("start_port", Integer, primary_key=True, nullable=False),
    Column("end_port", Integer, primary_key=True, nullable=False),
    Index("network_policies_by_destination", "destination"),
)

JOIN_TOKENS = Table(
    "join_tokens",
    _METADATA,
    Column("digest", Text, primary_key=True, nullable=False),
    _app_guid("app_guid"),
    Column("expires_at", _MOMENT, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("address_range", Text, nullable=False),
    Column("guid", Text, nullable=False, server_default=""),
    Column("created_at", _MOMENT),
    Column("uses", Integer),
    Index("join_tokens_by_app", "app_guid"),
)

OPERATOR_CERTIFICATES = Table(
    "operator_certificates",
    _METADATA,
    Column("serial", _SERIAL, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
    Column("issued_at", _MOMENT),
    Column("issued_by", _SERIAL),
    Column("revoked_at", _MOMENT),
)

# Without references, because neither the instance nor, perhaps, its app exists any more.
TOMBSTONES = Table(
    "tombstones",
    _METADATA,
    Column("instance_guid", Text, primary_key=True, nullable=False),
    Column("app_guid", Text, nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
    Column("address", Text),
    Column("app_address", Text),
)

# Without references, because their apps may be gone before them.
DRAINING_PORTS = Table(
    "draining_ports",
    _METADATA,
    Column("app_guid", Text, primary_key=True, nullable=False),
    Column("app_port", Integer, primary_key=True, nullable=False),
    Column("proxy_port", Integer, primary_key=True, nullable=False),
    Column("protocol", _choice(AppProtocol), nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
)

DRAINING_CALLERS = Table(
    "draining_callers",
    _METADATA,
    Column("source", Text, primary_key=True, nullable=False),
    Column("destination", Text, primary_key=True, nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
)

# Without a reference to the instance, whose row is deleted and inserted again when it changes.
ISSUED = Table(
    "issued_certificates",
    _METADATA,
    Column("instance_guid", Text, primary_key=True, nullable=False),
    Column("secret", Text, primary_key=True, nullable=False),
    Column("version", Text, nullable=False),
    Column("serial", _SERIAL, nullable=False),
    Column("names", _tuple_of(str), nullable=False),
    Column("not_before", _MOMENT, nullable=False),
    Column("not_after", _MOMENT, nullable=False),
    Column("issuer", Text, nullable=False),
    # It is a digest of what is sent after the leaf, and no chain.
    Column("chain", Text, key="sent_digest", nullable=False, server_default=""),
    Column("unacked", _tuple_of(str), nullable=False, server_default="[]"),
)
