"""A CA is rotated on a disk that takes its time: nobody else notices, and nothing is half done."""

from __future__ import annotations

import asyncio
import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.app import core
from control_plane.ca import Authority, Profile, Stage
from control_plane.errors import FailedPrecondition
from control_plane.model.routes import map_route
from control_plane.server.budget import CertificateBudget
from control_plane.settings.own_authority import ROTATION_FILE, read_authority_files
from control_plane.store.sqlite import SqliteStore
from tests.security.holders import issued, operator_request
from tests.security.slow_disk import SlowDisk
from tests.security.test_ca_rotation import Operator, operator, own_ca, stub_of
from tests.security.world import bystander, control_plane, refused, told
from tests.sidecar.platform import Platform
from tests.slow_disk import Disk, busy
from tests.waiting import eventually

LONG = 60
"""A route with a label of so many characters takes more octets than the prepared CA sends more."""


def stage(cf: Platform) -> Stage:
    """Return how far the rotation is."""
    return cf.running.core.rotation.rotation.stage


async def test_everything_goes_on_while_a_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of the step before it is on disk, and the next step waits until then."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there, operator(cf) as op:
        async with busy(Disk.of(monkeypatch), op.prepare()) as preparing:
            second = asyncio.ensure_future(refused(op.prepare()))
            await there.rotates()
            assert not preparing.done()
            assert not second.done()
            assert stage(cf) is Stage.STEADY
        await preparing
        assert stage(cf) is Stage.PREPARED
        assert "is prepared: one rotation at a time" in (await second)[1]


async def test_a_step_whose_caller_leaves_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What will be on the disk is what counts, and the log says so."""
    async with control_plane(tmp_path) as cf:
        prepare = cf.running.core.rotation.prepare
        with capture_logs() as lines:
            async with busy(Disk.of(monkeypatch), prepare()) as preparing:
                preparing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await preparing

        assert stage(cf) is Stage.PREPARED
        assert len(told(lines, log_events.CA_PREPARED)) == 1


async def test_the_next_step_waits_for_one_whose_caller_left_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is decided on what will be on the disk, although nobody waits for that any more."""
    async with control_plane(tmp_path) as cf:
        steps = cf.running.core.rotation
        async with busy(Disk.of(monkeypatch), steps.prepare()) as preparing:
            await leave_twice(preparing)
            settled = asyncio.ensure_future(steps.settled())
            second = asyncio.ensure_future(steps.prepare())
            done, _ = await asyncio.wait([settled, second], timeout=0.05)
            assert not done
        await settled
        with pytest.raises(FailedPrecondition, match="is prepared: one rotation at a time"):
            await second


async def test_a_step_that_fails_when_its_caller_has_left_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says why it was not taken, since nobody else is there to be told."""
    disk = Disk.of(monkeypatch)

    def sync(_: int) -> None:
        disk.sync(0)
        raise OSError(errno.EIO, "broken")

    async with control_plane(tmp_path) as cf:
        monkeypatch.setattr(os, "fsync", sync)
        with capture_logs() as lines:
            async with busy(disk, cf.running.core.rotation.prepare()) as preparing:
                preparing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await preparing

        assert stage(cf) is Stage.STEADY
        (failed,) = told(lines, log_events.STORE_FAILED)
        assert failed["reason"].endswith("was not written: broken")


async def leave_twice(call: asyncio.Future[None]) -> None:
    """Cancel a call, and again while it finishes what it has begun; return once it has ended."""
    for _ in range(2):
        call.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait([call])


async def test_who_stops_while_a_step_is_written_keeps_the_directory_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another control plane that starts there would read what is about to change."""
    close, found = SqliteStore.close, []

    async def closing(store: SqliteStore) -> None:
        found.append((cf.settings.data_dir / ROTATION_FILE).exists())
        await close(store)

    def has_stopped() -> bool:
        return "records" not in {each.get_name() for each in asyncio.all_tasks()}

    monkeypatch.setattr(SqliteStore, "close", closing)
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        async with busy(Disk.of(monkeypatch), op.prepare()) as preparing:
            stopping = asyncio.ensure_future(cf.stop())
            await refused(preparing)
            await eventually(has_stopped, "everything else has stopped")
        await stopping

    assert found == [True]


async def test_everything_goes_on_while_an_own_ca_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may be on a disk that is slow, or far away."""
    disk = Disk.of(monkeypatch)

    def read(*given: Any) -> Authority:  # noqa: ANN401 - as it is read
        disk.sync(0)
        return read_authority_files(*given)

    monkeypatch.setattr(core, "read_authority_files", read)
    _, certificate, key = own_ca(tmp_path)
    async with control_plane(tmp_path) as cf, bystander(cf) as there, operator(cf) as op:
        files = {"ca_cert": str(certificate), "ca_key": str(key), "allow_uncrossed": True}
        async with busy(disk, op.prepare(**files)) as preparing:
            await there.rotates()
        await preparing

        assert stage(cf) is Stage.PREPARED


async def test_who_waits_behind_a_step_is_judged_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA that leaves is another one by then, and may be that of the caller's certificate."""
    disk = Disk.of(monkeypatch)
    async with control_plane(tmp_path) as cf, operator(cf) as local:
        old = issued(cf, operator_request(cf))
        await local.prepare()
        async with old.connect(cf.running.ports.admin_address) as channel:
            async with busy(disk, local.activate(force=True)) as activating:
                retiring = asyncio.ensure_future(refused(Operator(cf, stub_of(channel)).retire()))
                step = cf.running.core.rotation._step
                await eventually(lambda: step._waiters, "the second step waits for the first")
            await activating
            code, why = await retiring

        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert why.startswith("your own certificate was signed by the CA that would leave")
        assert stage(cf) is Stage.ACTIVATED


async def fill(cf: Platform, app: str) -> str:
    """Give an app so many routes that one more just fits with the CA that signs; return that one.

    A prepared CA of ours sends some 50 octets more.
    """
    made, number = cf.running.core, 0
    budget = CertificateBudget(made.authorities.signing, made.profile)
    domains = made.settings.internal_domains

    def fits(hostname: str) -> bool:
        state = made.registry.state
        (guid,) = state.apps
        try:
            budget.check(map_route(state, guid, hostname, domains[0], domains).state, guid)
        except FailedPrecondition:
            return False
        return True

    while fits("x" * LONG):
        number += 1
        await cf.map_route(app, f"r{number}")
    return max(filter(fits, ("x" * length for length in range(1, LONG))), key=len)


@pytest.fixture
def short_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients take so little in a handshake that a few routes fill it."""
    monkeypatch.setattr(core, "Profile", partial(Profile, max_chain_bytes=4_000))


@pytest.mark.usefixtures("short_chains")
async def test_a_route_that_is_mapped_while_a_ca_is_activated_fits_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA that is about to sign sends more along, for which there has to be room, too."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app("shop")
        await op.prepare()
        one_more = await fill(cf, "shop")
        async with busy(Disk.of(monkeypatch), op.activate(force=True)) as activating:
            code, why = await refused(cf.map_route("shop", one_more))
            assert not activating.done()
        await activating

        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert why.startswith("with this the certificates of app 'shop' would take ")


@pytest.mark.usefixtures("short_chains")
async def test_a_route_that_is_being_mapped_counts_when_a_ca_is_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided on with the old CA, and is not on disk yet."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app("shop")
        await op.prepare()
        one_more = await fill(cf, "shop")
        disk.slows_down(monkeypatch)
        mapping = asyncio.ensure_future(cf.map_route("shop", one_more))
        await disk.begun.wait()
        activating = asyncio.ensure_future(refused(op.activate(force=True)))
        await asyncio.wait([activating], timeout=0.05)
        disk.go_on.set()
        await mapping
        code, why = await activating

        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert why.startswith("with this the certificates of app 'shop' would take ")
        assert stage(cf) is Stage.PREPARED
