"""The schema: steps and tables agree, old databases are brought forward, newer ones refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.exc import OperationalError

from control_plane.errors import ConfigurationError
from control_plane.model.change import Change
from control_plane.model.entities import (
    App,
    AppKey,
    Entity,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    RouteMapping,
    Tombstone,
    Transport,
)
from control_plane.names import Address, AppGuid, AppName, Hostname, InstanceGuid, Port
from control_plane.store.migrations import STEPS, migrate
from control_plane.store.protocol import IssuedRecord
from control_plane.store.rows import TABLES
from control_plane.store.schema import APPS
from control_plane.store.sqlite import SqliteStore


def described(connection: Connection) -> dict[str, Any]:
    """Return all that makes up the schema, in a form that can be compared."""
    inspector = inspect(connection)
    return {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"])
                for column in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "references": sorted(
                (key["constrained_columns"], key["referred_table"], str(key["options"]))
                for key in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(
                unique["column_names"] for unique in inspector.get_unique_constraints(table)
            ),
            "indexes": sorted(
                (str(index["name"]), index["column_names"])
                for index in inspector.get_indexes(table)
            ),
        }
        for table in inspector.get_table_names()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is."""
    return tmp_path / "state.db"


async def test_all_steps_together_make_the_tables(path: Path) -> None:
    """A database that went through every step is the same as one made from the tables at once."""
    memory = create_engine("sqlite://")
    with memory.begin() as connection:
        APPS.metadata.create_all(connection)
        expected = described(connection)
    memory.dispose()
    store = await SqliteStore.open(path)

    with store._engine.begin() as migrated:
        found = described(migrated)
    await store.close()

    assert found == expected
    assert len(found) == 11


def test_every_kind_of_entity_has_a_table_of_its_own() -> None:
    """Otherwise the first command that made one would find that it cannot be written."""
    assert set(TABLES) == set(get_args(Entity))
    assert len(set(TABLES.values())) == len(TABLES)


async def test_an_older_database_is_brought_forward_step_by_step(path: Path) -> None:
    """Only the steps that it lacks are taken, once, and its rows stay."""
    store = await SqliteStore.open(path)
    steps = [*STEPS, ["ALTER TABLE apps ADD COLUMN note TEXT"], ["UPDATE apps SET note = 'new'"]]

    with store._engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO apps "
            "VALUES ('g', 'o', 's', 'a', '[8080]', 8080, 'http1', 'linux', 0, 'process')"
        )
        migrate(connection, str(path), steps)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE apps SET note = 'changed since'")
        migrate(connection, str(path), steps)
        notes = connection.exec_driver_sql("SELECT note FROM apps")
        assert notes.scalars().all() == ["changed since"]
    await store.close()


OLDEST_ROWS = (
    (
        "apps (guid, org, space, name, ports, c2c_port, protocol, os, ssh) "
        "VALUES ('a', 'o', 's', 'name', '[8080]', NULL, 'http1', 'linux', 0)"
    ),
    (
        "instances (guid, app_guid, instance_index, address, app_address, status) "
        "VALUES ('a0', 'a', 0, '10.0.0.1', '127.0.0.1', 'ready')"
    ),
    "route_mappings VALUES ('a.apps.internal', 'a')",
    "network_policies VALUES ('a', 'a', 'tcp', 61443, 61443)",
    (
        "join_tokens (digest, app_guid, expires_at, uses_left, address_range) "
        "VALUES ('digest', 'a', '2026-01-01T12:00:00+00:00', 1, '')"
    ),
    (
        "issued_certificates "
        "(instance_guid, secret, version, serial, names, not_before, not_after, issuer) "
        "VALUES ('a0', 'secret', 'v', 'ff', '[\"a0\"]', '2026-01-01T12:00:00+00:00', "
        "'2026-01-02T12:00:00+00:00', 'sha256:0')"
    ),
)
"""What the first release wrote, but for columns that came later."""


@pytest.mark.parametrize("version", range(1, len(STEPS)))
async def test_what_any_release_wrote_is_read(path: Path, version: int) -> None:
    """Rows come from each older version as they were; what it did not know only a token gets."""
    path.touch(mode=0o600)
    older = create_engine(f"sqlite:///{path}")
    with older.begin() as connection:
        migrate(connection, str(path), STEPS[:version])
        for row in OLDEST_ROWS:
            connection.exec_driver_sql(f"INSERT INTO {row}")
    older.dispose()

    store = await SqliteStore.open(path)
    entities, records = await store.load(), await store.issued()
    await store.close()
    token = entities.pop()

    moment, app = datetime(2026, 1, 1, 12, tzinfo=UTC), AppGuid("a")
    key = AppKey("o", "s", AppName("name"))
    assert entities == [
        App(app, key, ports=(Port(8080),), c2c_port=None),
        Instance(
            InstanceGuid("a0"),
            app,
            0,
            Address("10.0.0.1"),
            Address("127.0.0.1"),
            InstanceStatus.READY,
            has_sidecar=False,
            has_resolver=False,
        ),
        RouteMapping(Hostname("a.apps.internal"), app),
        NetworkPolicy(app, app, Transport.TCP, Port(61443), Port(61443)),
    ]
    assert isinstance(token, JoinToken)
    assert token == JoinToken("digest", app, moment, 1, "", token.guid, created_at=None, uses=None)
    assert records == [
        IssuedRecord(
            InstanceGuid("a0"),
            "secret",
            "v",
            0xFF,
            ("a0",),
            moment,
            datetime(2026, 1, 2, 12, tzinfo=UTC),
            "sha256:0",
            sent_digest="",
            unacked=(),
        )
    ]


async def test_tokens_of_an_older_release_get_a_guid_each(path: Path) -> None:
    """Random ones, so that each can be told from the others, and not from its hash.

    Version 7 is the last without.
    """
    path.touch(mode=0o600)
    older = create_engine(f"sqlite:///{path}")
    with older.begin() as connection:
        migrate(connection, str(path), STEPS[:7])
        connection.exec_driver_sql(f"INSERT INTO {OLDEST_ROWS[0]}")
        for digest in ("d1", "d2"):
            connection.exec_driver_sql(
                f"INSERT INTO join_tokens VALUES ('{digest}', 'a', '2026-01-01T12:00:00Z', 1, '')"  # noqa: S608 - ours
            )
    older.dispose()

    found = []
    for _ in range(2):
        store = await SqliteStore.open(path)
        found.append([each for each in await store.load() if isinstance(each, JoinToken)])
        await store.close()

    tokens, again = found
    assert tokens == again
    assert all(str(UUID(each.guid, version=4)) == each.guid for each in tokens)
    assert len({each.guid for each in tokens}) == 2
    assert [(each.created_at, each.uses, each.uses_left) for each in tokens] == [
        (None, None, 1)
    ] * 2


async def test_a_database_without_tombstones_can_have_them(path: Path) -> None:
    """What was removed before it was brought forward has none; its instances stay, and may get one.

    Version 2 is the last without.
    """
    path.touch(mode=0o600)
    older = create_engine(f"sqlite:///{path}")
    with older.begin() as connection:
        migrate(connection, str(path), STEPS[:2])
        for row in (
            "apps VALUES ('guid-a', 'o', 's', 'a', '[8080]', 8080, 'http1', 'linux', 0)",
            "instances VALUES ('a0', 'guid-a', 0, '10.0.0.1', '127.0.0.1', 'ready')",
        ):
            connection.exec_driver_sql(f"INSERT INTO {row}")
    older.dispose()

    store = await SqliteStore.open(path)
    app, instance = await store.load()
    assert isinstance(instance, Instance)
    left = Tombstone(InstanceGuid("a0"), AppGuid("guid-a"), datetime(2026, 1, 1, 12, tzinfo=UTC))
    await store.commit(Change((left,), (instance,)))
    assert await store.load() == [app, left]
    await store.close()


async def test_a_failed_step_leaves_the_old_schema(path: Path) -> None:
    """A migration is one transaction: after a failure the old release still runs."""
    store = await SqliteStore.open(path)
    steps = [*STEPS, ["ALTER TABLE apps ADD COLUMN note TEXT", "ALTER TABLE nothing ADD x TEXT"]]

    with pytest.raises(OperationalError), store._engine.begin() as connection:
        migrate(connection, str(path), steps)
    await store.close()

    again = await SqliteStore.open(path)
    with again._engine.begin() as connection:
        columns = described(connection)["apps"]["columns"]
    await again.close()
    assert "note" not in [name for name, _, _ in columns]


async def test_a_newer_database_is_refused(path: Path) -> None:
    """An older release does not guess what a newer one meant."""
    store = await SqliteStore.open(path)
    with store._engine.begin() as connection:
        migrate(connection, str(path), [*STEPS, ["CREATE TABLE more (x TEXT)"]])
    await store.close()

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    version = len(STEPS)
    sentence = (
        f"state database '{path}' has schema version {version + 1} and this release knows none "
        f"above {version}: run the release that wrote it, or a newer one"
    )
    assert caught.value.problems == (sentence,)


async def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """Nothing is added to a file that others use."""
    path.touch(mode=0o600)
    other = create_engine(f"sqlite:///{path}")
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE songs (title TEXT)")
    other.dispose()

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    assert caught.value.problems == (f"'{path}' is a database, but not a state database",)
