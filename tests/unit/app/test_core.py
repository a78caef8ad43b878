"""The object graph as it is put together, without ports: whoever has to be told is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from control_plane.app.core import Core, build
from control_plane.ca import new_key_pair
from control_plane.model.apps import create_app, delete_app
from control_plane.model.change import Change
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import register_instance, remove_instance, set_status
from control_plane.model.policies import PolicySpec, add_policies
from control_plane.model.spec import AppSpec
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState
from control_plane.reconciler.membership.status import Word
from control_plane.settings import Settings
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.unit.app.kept import kept
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import Peer
from tests.waiting import eventually

B0 = InstanceGuid("b0")
RECORD = IssuedRecord(
    B0, "c2c-cert-and-key", "v", 0xA1, ("b0",), NOON, NOON + timedelta(1), "sha256:"
)
MAY_STAY = {
    "reconciler.farewells._told{}",  # as long as its tombstone, or it would be told again
    "presence._has_turn._buckets{}",  # of a bounded number, and whoever comes anew has its turns
    "reconciler._renewals._heap[][]",  # until its turn, in which nothing happens
}

DRAINS = {  # for a minute, until something else changes
    "reconciler._draining._gone{}",
    "reconciler._draining._gone{}..callers{}",
}


@asynccontextmanager
async def built(directory: Path, *records: IssuedRecord) -> AsyncIterator[Core]:
    """Put a core together over a data directory with these records of app b, and nothing else."""
    settings = Settings(data_dir=directory / "data")
    store = await SqliteStore.open(settings.data_dir / "c2c.db")
    try:
        if records:
            state = register(world("b"), "b0", B, "10.0.1.1")
            await store.commit(Change(puts=(state.apps[B], state.instances[B0])))
            await store.record_issued(records)
        yield await build(settings, ManualClock(), store)
    finally:
        await store.close()


async def test_what_is_not_served_is_in_the_log_though_nobody_watches(tmp_path: Path) -> None:
    """Somebody has to act on it, whether or not anybody watches the feed."""
    async with built(tmp_path) as core:
        ledger = core.observed.ledger
        with capture_logs() as lines:
            ledger.issued(RECORD)
            ledger.move(ledger.of(B0)[0], CertificateState.NOT_SERVED, "refused")

    assert "certificate.not_served" in [line["event"] for line in lines]


@asynccontextmanager
async def working(core: Core, *, plans: bool = True) -> AsyncIterator[None]:
    """Let those work who write and remember, and who plans unless the test says no."""
    works = [core.registry.run(), core.presence.run(), core.records.run()]
    works += [core.reconciler.run()] if plans else []
    async with running(*works):
        yield


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let these work until the block ends."""
    tasks = [asyncio.create_task(each) for each in works]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _status(core: Core) -> InstanceStatus:
    return core.registry.state.instances[B0].status


async def live_a_life(core: Core) -> Peer:
    """Let an instance enrol, connect, follow its plan and report; return its Envoy."""
    registry = core.registry
    await registry.execute(lambda state: create_app(state, B, AppSpec("b")))
    await registry.execute(lambda state: register_instance(state, B0, B, "10.0.1.1"))
    (app,), (instance,) = registry.state.all_apps(), registry.state.all_instances()
    leaf = core.identities.issue(app, instance, new_key_pair().public)
    core.identities.given(B0, leaf)
    envoy = Peer(core, B0, 1).as_envoy()
    (newest,) = (
        each.record.serial
        for each in core.observed.ledger.of(B0)
        if each.record.secret == RECORD.secret
    )
    core.attestation.report(B0, newest, (8080,), {8080: True}, frozenset({"sha256:"}))
    core.presence.reported(B0, Word(listening=True, leaving=False))
    for sight in (core.observed.proof._sight, core.convergence._sight):
        sight._shown[B0] = newest  # as if it had been looked at from here
    return envoy


async def test_who_was_removed_is_forgotten_wherever_it_was_known(tmp_path: Path) -> None:
    """What is remembered of each instance would else pile up, in whichever part of the core."""
    async with built(tmp_path) as core, working(core):
        envoy = await live_a_life(core)
        await eventually(lambda: _status(core) is InstanceStatus.READY, "it is ready")
        known = kept(core, B0)
        await core.registry.execute(lambda state: remove_instance(state, B0))
        envoy.settle()
        envoy.close()

        await eventually(lambda: kept(core, B0) <= MAY_STAY, "it is forgotten")

    memories = {path.rpartition(".")[2] for path in known}
    assert memories >= {"_counting{}", "_reports{}", "_sure{}", "_used{}", "_entries{}", "_shown{}"}


async def test_nobody_is_ready_by_an_outdated_plan(tmp_path: Path) -> None:
    """Names would lead to a certificate without them, while a crowd waits for its turn."""
    async with built(tmp_path, RECORD) as core, working(core, plans=False):
        envoy = Peer(core, B0, 1)
        for url in (CLUSTER, LISTENER):
            envoy.ask(url)
        envoy.settle()
        await core.registry.execute(lambda state: mapping(state, B, "api"))
        envoy.ask(SECRET, "c2c-cert-and-key", "id-cert-and-key")
        envoy.settle()
        assert core.reconciler.standing.awaits_plan(B0)
        await eventually(lambda: _status(core) is InstanceStatus.NOT_READY, "it is there")
        # Presence has written what there is, and would have written this before.
        await core.registry.execute(lambda state: mapping(state, B, "other"))
        assert _status(core) is InstanceStatus.NOT_READY

        async with running(core.reconciler.run()):
            await eventually(lambda: not core.reconciler.standing.awaits_plan(B0), "its turn")
            envoy.settle()
            await eventually(lambda: _status(core) is InstanceStatus.READY, "it is ready")

    record = core.observed.ledger.of(B0)[0].record
    assert "api.apps.internal" in record.names


async def test_who_had_its_plan_before_its_turn_is_ready_at_its_turn(tmp_path: Path) -> None:
    """Its Envoy has all of it and no more to say, so nothing else would tell."""
    async with built(tmp_path, RECORD) as core, working(core, plans=False):
        envoy = Peer(core, B0, 1)
        envoy.ask(CLUSTER)
        await eventually(lambda: _status(core) is InstanceStatus.NOT_READY, "it is there")
        assert core.reconciler.standing.awaits_plan(B0)
        envoy.as_envoy()
        before = core.nodes.snapshot(B0)

        async with running(core.reconciler.run()):
            await eventually(lambda: _status(core) is InstanceStatus.READY, "it is ready")

        assert core.nodes.snapshot(B0) is before


async def test_an_app_that_was_deleted_is_forgotten_wherever_it_was_known(tmp_path: Path) -> None:
    """Where apps come and go, what was made for their instances would else stay."""
    async with built(tmp_path) as core, working(core):
        registry = core.registry
        envoy = await live_a_life(core)
        await registry.execute(
            lambda state: add_policies(state, [PolicySpec(B, B, "tcp", 1, 65535)])
        )
        await registry.execute(lambda state: mapping(state, B, "api"))
        resolver = Peer(core, B0, 2).as_resolver()
        await eventually(lambda: not core.reconciler.standing.awaits_plan(B0), "its turn")
        assert any(each.startswith("reconciler._planner") for each in kept(core, B))
        await registry.execute(lambda state: delete_app(state, B))
        for each in (envoy, resolver):
            each.settle()
            each.close()

        await eventually(lambda: kept(core, B) <= DRAINS, "it is forgotten")


async def test_what_an_older_release_sent_for_ports_is_no_identity(tmp_path: Path) -> None:
    """It has the SPIFFE id of its instance; its record says that it is a secret all the same."""
    uri = "spiffe://c2c.internal/app/b/instance/b0"
    sent = replace(RECORD, secret="id-cert-and-key", serial=0xB, names=("b0", uri))
    shown = replace(sent, secret="identity", serial=0xC)
    async with built(tmp_path, sent, shown) as core:
        assert not core.identities.counts(B0, 0xB)
        assert core.identities.counts(B0, 0xC)


async def test_nobody_awaits_the_certificate_of_who_counts_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ended before that, so nothing else would tell those who wait for it to be back."""
    here = register(world("b"), B0, B, "10.0.1.1")
    told: list[InstanceGuid] = []
    async with built(tmp_path) as core:
        monkeypatch.setattr(core.observed.proof, "gone", told.append)
        for status in (InstanceStatus.READY, InstanceStatus.GONE):
            change = set_status(here, B0, status)
            core.observed.committed(change.state, change.change)

    assert told == [B0]
