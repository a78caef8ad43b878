"""The tables, and how a database of an older release gets to them.

The rule of this module: a step of ``STEPS`` is never changed once it was released, only followed by
another. The tables below are what all steps together come to; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from control_plane.errors import ConfigurationError

_METADATA = MetaData()


def _app_guid(name: str, *, primary_key: bool = False) -> Column[str]:
    """Return a column that refers to an app.

    It is checked when the transaction ends, so rows may be written in any order.
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

# Without references: neither the instance nor, perhaps, its app is there any more.
TOMBSTONES = Table(
    "tombstones",
    _METADATA,
    Column("instance_guid", Text, primary_key=True, nullable=False),
    Column("app_guid", Text, nullable=False),
    Column("ends_at", Text, nullable=False),
)

# Without references: their apps may be gone before them.
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

# Without a reference to its instance, which is deleted and inserted again when it changes.
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
    # It has IssuedRecord.sent_digest: a digest of what is sent after the leaf, and no chain.
    Column("chain", Text, nullable=False, server_default=""),
    Column("unacked", JSON, nullable=False, server_default="[]"),
)

Step = Sequence[str]
"""The statements that lead from one version of the schema to the next."""

STEPS: tuple[Step, ...] = (
    (
        """CREATE TABLE apps (
            guid TEXT NOT NULL PRIMARY KEY,
            org TEXT NOT NULL,
            space TEXT NOT NULL,
            name TEXT NOT NULL,
            ports JSON NOT NULL,
            c2c_port INTEGER,
            protocol TEXT NOT NULL,
            os TEXT NOT NULL,
            ssh BOOLEAN NOT NULL,
            UNIQUE (org, space, name)
        )""",
        """CREATE TABLE instances (
            guid TEXT NOT NULL PRIMARY KEY,
            app_guid TEXT NOT NULL,
            instance_index INTEGER NOT NULL,
            address TEXT NOT NULL UNIQUE,
            app_address TEXT NOT NULL,
            status TEXT NOT NULL,
            UNIQUE (app_guid, instance_index),
            FOREIGN KEY (app_guid) REFERENCES apps (guid) DEFERRABLE INITIALLY DEFERRED
        )""",
        """CREATE TABLE route_mappings (
            hostname TEXT NOT NULL,
            app_guid TEXT NOT NULL,
            PRIMARY KEY (hostname, app_guid),
            FOREIGN KEY (app_guid) REFERENCES apps (guid) DEFERRABLE INITIALLY DEFERRED
        )""",
        "CREATE INDEX route_mappings_by_app ON route_mappings (app_guid)",
        """CREATE TABLE network_policies (
            source TEXT NOT NULL,
            destination TEXT NOT NULL,
            transport TEXT NOT NULL,
            start_port INTEGER NOT NULL,
            end_port INTEGER NOT NULL,
            PRIMARY KEY (source, destination, transport, start_port, end_port),
            FOREIGN KEY (source) REFERENCES apps (guid) DEFERRABLE INITIALLY DEFERRED,
            FOREIGN KEY (destination) REFERENCES apps (guid) DEFERRABLE INITIALLY DEFERRED
        )""",
        "CREATE INDEX network_policies_by_destination ON network_policies (destination)",
        """CREATE TABLE join_tokens (
            digest TEXT NOT NULL PRIMARY KEY,
            app_guid TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            uses_left INTEGER NOT NULL,
            address_range TEXT NOT NULL,
            FOREIGN KEY (app_guid) REFERENCES apps (guid) DEFERRABLE INITIALLY DEFERRED
        )""",
        "CREATE INDEX join_tokens_by_app ON join_tokens (app_guid)",
        """CREATE TABLE issued_certificates (
            instance_guid TEXT NOT NULL,
            secret TEXT NOT NULL,
            version TEXT NOT NULL,
            serial TEXT NOT NULL,
            names JSON NOT NULL,
            not_before TEXT NOT NULL,
            not_after TEXT NOT NULL,
            issuer TEXT NOT NULL,
            PRIMARY KEY (instance_guid, secret)
        )""",
    ),
    ("ALTER TABLE issued_certificates ADD COLUMN chain TEXT DEFAULT '' NOT NULL",),
    (
        """CREATE TABLE tombstones (
            instance_guid TEXT NOT NULL PRIMARY KEY,
            app_guid TEXT NOT NULL,
            ends_at TEXT NOT NULL
        )""",
    ),
    ("ALTER TABLE instances ADD COLUMN has_sidecar BOOLEAN DEFAULT 0 NOT NULL",),
    ("ALTER TABLE issued_certificates ADD COLUMN unacked JSON DEFAULT '[]' NOT NULL",),
    ("ALTER TABLE instances ADD COLUMN has_resolver BOOLEAN DEFAULT 0 NOT NULL",),
    (
        """CREATE TABLE draining_ports (
            app_guid TEXT NOT NULL,
            app_port INTEGER NOT NULL,
            proxy_port INTEGER NOT NULL,
            protocol TEXT NOT NULL,
            ends_at TEXT NOT NULL,
            PRIMARY KEY (app_guid, app_port, proxy_port)
        )""",
        """CREATE TABLE draining_callers (
            source TEXT NOT NULL,
            destination TEXT NOT NULL,
            ends_at TEXT NOT NULL,
            PRIMARY KEY (source, destination)
        )""",
    ),
    (
        "ALTER TABLE join_tokens ADD COLUMN guid TEXT DEFAULT '' NOT NULL",
        "ALTER TABLE join_tokens ADD COLUMN created_at TEXT",
        "ALTER TABLE join_tokens ADD COLUMN uses INTEGER",
        # Random ones, in the form of those that this program makes (RFC 9562, version 4).
        """UPDATE join_tokens SET guid = lower(
            hex(randomblob(4)) || '-' || hex(randomblob(2))
            || '-4' || substr(hex(randomblob(2)), 2)
            || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
        )""",
    ),
    ("ALTER TABLE apps ADD COLUMN health_check_type TEXT DEFAULT 'port' NOT NULL",),
)
"""Step n leads from version n - 1 to version n; version 0 is an empty database."""


def migrate(connection: Connection, path: str, steps: Sequence[Step] = STEPS) -> None:
    """Bring the database to the newest version, in the transaction that is open.

    Raises:
        ConfigurationError: it is of a newer release, or not one of ours.
        ValueError: it has no version.
    """
    version = _version_of(connection, path)
    if version > len(steps):
        problem = (
            f"state database {path!r} has schema version {version} and this release knows "
            f"none above {len(steps)}: run the release that wrote it, or a newer one"
        )
        raise ConfigurationError([problem])
    for step in steps[version:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    connection.execute(SCHEMA_VERSION.update().values(version=len(steps)))


def _version_of(connection: Connection, path: str) -> int:
    """Return the version of the schema, after making an empty database one of version 0."""
    rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = set(rows.scalars())
    if not tables:
        connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        connection.execute(SCHEMA_VERSION.insert().values(version=0))
    elif SCHEMA_VERSION.name not in tables:
        raise ConfigurationError([f"{path!r} is a database, but not a state database"])
    versions = connection.scalars(SCHEMA_VERSION.select()).all()
    match versions:
        case [int(version)] if version >= 0:
            return version
        case _:
            found = ", ".join(map(str, versions)) or "missing"
            raise ValueError(f"the version of its schema is {found}")
