"""Restarts of the control plane under real Envoys: nothing that did not change is sent again."""

from __future__ import annotations

import contextlib
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.app.control_plane import DATABASE_FILE
from control_plane.log_events import NAME_TABLE_APPLIED
from control_plane.planner import NAME_TABLE
from control_plane.store.migrations import STEPS
from control_plane.store.schema import APPS
from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import Envoy, unique_address, until
from tests.faults.plane import Plane, plane
from tests.installed import C2C
from tests.sidecar.platform import free_port
from tests.sidecar.process import Sidecar, sidecar
from tests.sidecar.scene import Caller

NAME = "app-b.apps.internal"

NEEDLESS = (
    "listener_manager.listener_modified",
    "listener_manager.listener_removed",
    "cluster_manager.cluster_modified",
    "cluster_manager.cluster_removed",
)
"""What Envoy counts when it is told of another listener or cluster."""

SECRET = "ssl_context_update_by_sds"
"""How the name ends of what counts the certificates of a listener."""

POLICY = re.compile(
    r"extension_config_discovery\.http_filter\.allowed-sources-\d+-[^.]+\.config_reload"
)
"""What counts how often a port was told of other sources."""

BACK = 15.0
"""Seconds until an Envoy is in step with a control plane that is back: its pauses between two tries
are 10 s at the most, and a connection takes 5 s at the most (envoy/bootstrap.yaml)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An app with a route behind a real sidecar, and somebody who may call it."""

    cp: Plane
    caller: Caller
    address: str
    port: int
    directory: Path

    @contextlib.asynccontextmanager
    async def instance(
        self, *options: str, again: bool = False, program: Sequence[str] = (C2C,)
    ) -> AsyncIterator[Sidecar]:
        """Run the instance until the block ends, with the identity of before if ``again``.

        After it no stream may be left.
        """
        ticket = None if again else await self.cp.ticket("app-b")
        server = ("--server", str(self.cp.settings.enroll_address)) if again else ()
        told = (*server, "--address", self.address, "--app-port", str(self.port), *options)
        async with sidecar(ticket, self.directory, *told, program=program) as running:
            await running.logged("envoy.started")
            await self.caller.reaches(self.address)
            yield running
        await until(self.cp.is_empty, what="no stream is left")

    async def serial(self) -> int:
        """Return the serial of the certificate that the instance shows."""
        return await self.caller.serial(self.address)


@contextlib.asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """Run the control plane and the app until the block ends."""
    async with plane(directory) as cp, tcp_app(http1()) as app:
        await cp.create_app("app-b", port=app.port)
        await cp.map_route("app-b", "app-b")
        caller = Caller(await cp.caller_of("app-b"), cp.trust_bundle, NAME)
        yield Scene(cp, caller, unique_address(), app.port, directory / "sidecar")


async def updates(envoy: Envoy) -> dict[str, int]:
    """Return how often Envoy was told of anything new, certificates and policies included."""
    stats = await envoy.stats()
    secrets = {name for name in stats if name.endswith(SECRET)}
    policies = {name for name in stats if POLICY.fullmatch(name)}
    assert secrets, "Envoy counts the updates of certificates"
    assert policies, "Envoy counts the updates of policies"
    return {name: stats.get(name, 0) for name in {*NEEDLESS, *secrets, *policies}}


def name_tables(instance: Sidecar) -> list[str]:
    """Return the version of each name table by which a resolver answered, one after the other."""
    versions = [each["version"] for each in instance.events(NAME_TABLE_APPLIED)]
    # A name that is subscribed to is owed an answer, also where the client has it (xds/delta.py).
    return [each for each, before in zip(versions, ["", *versions], strict=False) if each != before]


async def reconnected(envoy: Envoy, before: int) -> None:
    """Wait until Envoy has a new stream, on which it was answered."""

    async def probe() -> bool:
        stats = await envoy.stats("c")
        new = stats["cluster_manager.cds.update_attempt"] > before
        return new and stats["control_plane.connected_state"] == 1

    await until(probe, what="Envoy is back on a stream", timeout=BACK)


async def test_kill_9_is_not_seen_by_envoy(tmp_path: Path) -> None:
    """Killed and started again, the control plane tells nothing new: no certificate, policy, name.

    Envoy is in step again within its own back-off.
    """
    dns = ("--dns-address", f"127.0.0.1:{free_port()}")
    async with scene(tmp_path) as here, here.instance(*dns) as instance:
        serial = await here.serial()
        await here.cp.recorded(serial)

        async def has_the_name() -> bool:
            return any(each["names"] for each in instance.events(NAME_TABLE_APPLIED))

        await until(has_the_name, what="the resolver knows the name")
        await here.cp.synced(having=NAME_TABLE)
        before, tables = await updates(instance.envoy), name_tables(instance)
        attempts = await instance.envoy.stat("cluster_manager.cds.update_attempt")

        await here.cp.kill()
        assert (await here.caller.call(here.address)).status == 200
        await here.cp.start()
        back = time.monotonic()
        await reconnected(instance.envoy, attempts)
        await here.cp.synced()
        seconds = time.monotonic() - back
        await here.cp.synced(having=NAME_TABLE)

        assert await updates(instance.envoy) == before
        assert await here.serial() == serial
        assert name_tables(instance) == tables
        assert seconds < BACK


def make_older(database: Path, version: int) -> None:
    """Have a database as it was when its schema had a version, without what came later."""
    older = database.with_suffix(".older")
    older.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(older, isolation_level=None)) as connection:
        for step in STEPS[:version]:
            for statement in step:
                connection.execute(statement)
        connection.execute("ATTACH ? AS newer", (str(database),))
        tables = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master")]
        for table in (each for each in tables if each in APPS.metadata.tables):
            columns = ", ".join(
                each for _, each, *_ in connection.execute(f"PRAGMA main.table_info({table})")
            )
            connection.execute(f"INSERT INTO main.{table} SELECT {columns} FROM newer.{table}")  # noqa: S608 - ours
        connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
    older.replace(database)


@pytest.mark.parametrize("version", [1, len(STEPS) - 1])
async def test_an_upgrade_of_the_database_is_not_seen_by_envoy(
    tmp_path: Path, version: int
) -> None:
    """An older release wrote less, and what is missing costs no certificate, policy or name."""
    dns = ("--dns-address", f"127.0.0.1:{free_port()}")
    async with scene(tmp_path) as here, here.instance(*dns) as instance:
        serial = await here.serial()
        await here.cp.recorded(serial)
        await here.cp.synced(having=NAME_TABLE)
        before, tables = await updates(instance.envoy), name_tables(instance)
        attempts = await instance.envoy.stat("cluster_manager.cds.update_attempt")

        await here.cp.stop()
        make_older(here.cp.settings.data_dir / DATABASE_FILE, version)
        await here.cp.start()
        await reconnected(instance.envoy, attempts)
        await here.cp.synced()
        await here.cp.synced(having=NAME_TABLE)

        assert await updates(instance.envoy) == before
        assert await here.serial() == serial
        assert name_tables(instance) == tables
        assert (await here.caller.call(here.address)).status == 200


async def test_after_kill_9_changes_reach_envoy(tmp_path: Path) -> None:
    """What was left alone is not forgotten: the next route is in the next certificate."""
    async with scene(tmp_path) as here, here.instance():
        serial = await here.serial()
        await here.cp.kill()
        await here.cp.start()
        await here.cp.synced()

        assert await here.cp.map_route("app-b", "second")

        assert await here.serial() != serial
        second = Caller(here.caller.source, here.caller.ca, "second.apps.internal")
        assert (await second.call(here.address)).status == 200


async def test_a_fresh_envoy_after_a_restart_gets_a_new_certificate(tmp_path: Path) -> None:
    """The record is no use to an Envoy that has not the key: it is served anew, in seconds."""
    async with scene(tmp_path) as here:
        async with here.instance():
            serial = await here.serial()
            await here.cp.recorded(serial)
        await here.cp.kill()
        await here.cp.start()
        async with here.instance(again=True):
            assert await here.serial() != serial


async def test_what_drains_is_not_withdrawn_by_a_restart(tmp_path: Path) -> None:
    """A connection from before the app's port changed is served as it would be without one."""
    async with (
        scene(tmp_path) as here,
        tcp_app(http1()) as other,
        here.instance("--drain-time", "60s") as instance,
        here.caller.connect(here.address) as connection,
    ):
        assert (await connection.request("/")).status == 200
        await here.cp.use_ports("app-b", other.port)
        await here.cp.synced()
        attempts = await instance.envoy.stat("cluster_manager.cds.update_attempt")

        await here.cp.kill()
        await here.cp.start()
        await reconnected(instance.envoy, attempts)
        await here.cp.synced()
        assert (await connection.request("/")).status == 200


async def test_who_is_about_to_stop_stays_out_of_names_across_a_restart(tmp_path: Path) -> None:
    """While its Envoy drains it is a client like any other, and no name leads there any more."""
    async with scene(tmp_path) as here, here.instance("--offline-wait", "60s") as instance:

        async def is_it(status: str) -> bool:
            return [each.status for each in await here.cp.statuses("app-b")] == [status]

        await until(lambda: is_it("ready"), what="the instance is ready")
        instance.process.send_signal(signal.SIGTERM)
        await until(lambda: is_it("not_ready"), what="the instance is not ready any more")
        attempts = await instance.envoy.stat("cluster_manager.cds.update_attempt")
        await here.cp.kill()
        await here.cp.start()
        await reconnected(instance.envoy, attempts)
        await here.cp.synced()

        # Whatever its ACKs led to was written before this change is.
        assert await here.cp.map_route("app-b", "second")

        assert await is_it("not_ready")
