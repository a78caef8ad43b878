"""The tables.

The rule of this module: the tables here are what all steps of ``store.migrations`` together result
in; a test compares the two.
"""

from __future__ import annotations

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
    UniqueConstraint,
)

_METADATA = MetaData()


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
    Column("ports", JSON, nullable=False),
    Column("c2c_port", Integer),
    Column("protocol", Text, nullable=False),
    Column("os", Text, nullable=False),
    Column("ssh", Boolean, nullable=False),
    Column("health_check_type", Text, nullable=False, server_default="port"),
    UniqueConstraint("org", "space", "name"),
)

INSTANCES = Table(
    "instances",
    _METADATA,
    Column("guid", Text, primary_key=True, nullable=False),
    _app_guid("app_guid"),
    Column("instance_index", Integer, nullable=False),
    Column("address", Text, nullable=False, unique=True),
    Column("app_address", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("has_sidecar", Boolean, nullable=False, server_default="0"),
    Column("has_resolver", Boolean, nullable=False, server_default="0"),
    UniqueConstraint("app_guid", "instance_index"),
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
    Column("transport", Text, primary_key=True, nullable=False),
    Column("start_port", Integer, primary_key=True, nullable=False),
    Column("end_port", Integer, primary_key=True, nullable=False),
    Index("network_policies_by_destination", "destination"),
)

JOIN_TOKENS = Table(
    "join_tokens",
    _METADATA,
    Column("digest", Text, primary_key=True, nullable=False),
    _app_guid("app_guid"),
    Column("expires_at", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("address_range", Text, nullable=False),
    Column("guid", Text, nullable=False, server_default=""),
    Column("created_at", Text),
    Column("uses", Integer),
    Index("join_tokens_by_app", "app_guid"),
)

# A serial has up to 160 bits, which no column of integers holds. Here it is hexadecimal.
OPERATOR_CERTIFICATES = Table(
    "operator_certificates",
    _METADATA,
    Column("serial", Text, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("ends_at", Text, nullable=False),
    Column("issued_at", Text),
    Column("issued_by", Text),
    Column("revoked_at", Text),
)

# Without references, because neither the instance nor, perhaps, its app exists any more.
TOMBSTONES = Table(
    "tombstones",
    _METADATA,
    Column("instance_guid", Text, primary_key=True, nullable=False),
    Column("app_guid", Text, nullable=False),
    Column("ends_at", Text, nullable=False),
)

# Without references, because their apps may be gone before them.
DRAINING_PORTS = Table(
    "draining_ports",
    _METADATA,
    Column("app_guid", Text, primary_key=True, nullable=False),
    Column("app_port", Integer, primary_key=True, nullable=False),
    Column("proxy_port", Integer, primary_key=True, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("ends_at", Text, nullable=False),
)

DRAINING_CALLERS = Table(
    "draining_callers",
    _METADATA,
    Column("source", Text, primary_key=True, nullable=False),
    Column("destination", Text, primary_key=True, nullable=False),
    Column("ends_at", Text, nullable=False),
)

# Without a reference to the instance, whose row is deleted and inserted again when it changes.
ISSUED = Table(
    "issued_certificates",
    _METADATA,
    Column("instance_guid", Text, primary_key=True, nullable=False),
    Column("secret", Text, primary_key=True, nullable=False),
    Column("version", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("names", JSON, nullable=False),
    Column("not_before", Text, nullable=False),
    Column("not_after", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    # This is IssuedRecord.sent_digest: a digest of what is sent after the leaf, and no chain.
    Column("chain", Text, nullable=False, server_default=""),
    Column("unacked", JSON, nullable=False, server_default="[]"),
)
