"""A disk that takes nothing, and a CA that signs nothing: what is there stays, and is told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from control_plane.errors import StorageError
from control_plane.store.sqlite import SqliteStore
from tests.e2e import traffic
from tests.e2e.site import site
from tests.envoy.harness import until
from tests.faults.leftovers import nothing_left
from tests.promises import none_failed
from tests.security.slow_disk import fill_up

HOST = "app-b"


async def test_a_full_disk_refuses_changes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is refused with the reason, streams and apps go on, and later it works again."""
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        leaf = await b.serves()
        async with (
            nothing_left(cloud.core.nodes.all_streams),
            traffic.fresh_requests(b, HOST, source) as calls,
        ):
            with monkeypatch.context() as patch:
                fill_up(patch)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await cloud.map(HOST, "second")
                await calls.more()

                assert await b.serves() == leaf
                assert await cloud.routes() == {f"{HOST}.apps.internal"}
            assert (await cloud.map(HOST, "second")).complete

        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "disk is full" in (refused.value.details() or "")
        none_failed(calls)
        assert len(cloud.core.nodes.streams(b.guid)) == 1


async def test_records_that_cannot_be_written_keep_no_rotation_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of certificates is not worth a certificate; it is tried again later."""

    async def full(_store: SqliteStore, _records: Sequence[object]) -> None:
        raise StorageError("the change was not written: database or disk is full")

    monkeypatch.setattr(SqliteStore, "record_issued", full)
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        before = (await b.serves()).serial

        async with nothing_left(cloud.core.nodes.all_streams):
            assert (await cloud.map(HOST, HOST)).complete
            assert (await b.serves()).serial != before


async def test_a_ca_that_cannot_sign_leaves_the_old_certificate(tmp_path: Path) -> None:
    """The old one is served, whoever waits is told why, and the retry needs nobody."""
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        leaf = await b.serves()
        custody = cloud.core.custody
        able = custody._custodian
        custody._custodian = dataclasses.replace(able, new_serial=lambda: 0)
        async with (
            nothing_left(cloud.core.nodes.all_streams),
            traffic.fresh_requests(b, HOST, source) as calls,
        ):
            answer = await cloud.map(HOST, "second", timeout=1)
            assert await b.serves() == leaf
            custody._custodian = able

            async def is_served() -> bool:
                return "second.apps.internal" in (await b.serves()).names

            await until(is_served, what="the retry succeeds")

        assert not answer.complete
        assert "serial must be positive" in answer.behind[0].reason
        none_failed(calls)
