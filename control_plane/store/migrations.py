"""How an empty database, or that of an older release, gets the tables of this release.

The rule of this module: once a step was released it is never changed; a change to the schema takes
another step.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from control_plane.errors import ConfigurationError
from control_plane.store.schema import SCHEMA_VERSION

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
        # Random GUIDs, in the form of those that this program makes (RFC 9562, version 4).
        """UPDATE join_tokens SET guid = lower(
            hex(randomblob(4)) || '-' || hex(randomblob(2))
            || '-4' || substr(hex(randomblob(2)), 2)
            || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
        )""",
    ),
    ("ALTER TABLE apps ADD COLUMN health_check_type TEXT DEFAULT 'port' NOT NULL",),
    (
        """CREATE TABLE operator_certificates (
            serial TEXT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            ends_at TEXT NOT NULL,
            issued_at TEXT,
            issued_by TEXT,
            revoked_at TEXT
        )""",
    ),
    (
        "ALTER TABLE tombstones ADD COLUMN address TEXT",
        "ALTER TABLE tombstones ADD COLUMN app_address TEXT",
    ),
)
"""Step n leads from version n - 1 to version n; version 0 is an empty database."""


def migrate(connection: Connection, path: str, steps: Sequence[Step] = STEPS) -> None:
    """Bring the database to the newest version, in the transaction that is open.

    Raises:
        ConfigurationError: the database is of a newer release, or is not one of ours.
        ValueError: the database has no version.
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
    """Return the version of the schema; an empty database becomes one of version 0 first."""
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
