"""An instance that was removed: its listeners are withdrawn, then it is sent away for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.names import AppGuid, InstanceGuid
from control_plane.planner import NAME_TABLE, NAME_TABLE_TYPE
from control_plane.planner.ports import ID_SECRET
from control_plane.reconciler.membership import farewells
from control_plane.server.access.instance_proof import removed
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from tests.security.applicants import applicant
from tests.security.holders import Holder, identity_request, issued
from tests.security.slow_disk import SlowDisk
from tests.security.world import (
    C2C_SECRET,
    ShiftedClock,
    Status,
    bystander,
    control_plane,
    delete_app,
    enrol,
    is_gone,
    refused,
    refused_stream,
    renew,
    stream,
    told,
    xds_address,
)
from tests.sidecar.platform import Platform
from tests.waiting import eventually
from tests.xds_client import PATIENCE, DeltaClient, Response, SotwClient, StreamEnded

FILTER = "allowed-sources-61443-a"

ENDED = (grpc.StatusCode.PERMISSION_DENIED, "this instance was removed")

Removal = Callable[[Platform, Holder], Awaitable[None]]

REMOVALS: dict[str, Removal] = {
    "the instance is removed": lambda cf, holder: cf.remove(holder.guid),
    "its app is deleted": lambda cf, _: delete_app(cf, "app-b"),
}


async def settled(client: DeltaClient) -> list[str]:
    """Ask for what Envoy asks for, accept it, and return the names of the listeners."""
    await client.subscribe(CLUSTER)
    await client.ack(await client.receive())
    await client.subscribe(LISTENER)
    await client.ack(listeners := await client.receive())
    await client.subscribe(SECRET, C2C_SECRET)
    await client.ack(await client.receive())
    return [each.name for each in listeners.resources]


async def withdrawn(client: DeltaClient) -> Response:
    """Return the response that takes a client's listeners away."""
    async with asyncio.timeout(PATIENCE):
        while (response := await client.receive()).type_url != LISTENER:
            await client.ack(response)
    return response


async def lost(client: DeltaClient) -> set[str]:
    """Accept what takes things away, until the stream ends; nothing is given meanwhile."""
    names: set[str] = set()
    with suppress(StreamEnded):
        while True:
            response = await client.receive()
            assert not response.resources
            names.update(response.removed_resources)
            if response.type_url != EXTENSION_CONFIG:  # nobody waits for that, so it may be over
                await client.ack(response)
    return names


@asynccontextmanager
async def sotw_stream(cf: Platform, holder: Holder) -> AsyncIterator[SotwClient]:
    """Open an ADS stream of the other variant, on a connection of its own."""
    async with (
        holder.connect(xds_address(cf)) as channel,
        SotwClient(channel, holder.guid) as client,
    ):
        yield client


async def acked_to_the_end(client: DeltaClient) -> Status:
    """Accept whatever comes, and return how the stream ends."""
    try:
        while True:
            await client.ack(await client.receive())
    except StreamEnded as ended:
        return ended.code, ended.details


@pytest.mark.parametrize("how", REMOVALS)
async def test_listeners_go_before_the_stream_does(tmp_path: Path, how: str) -> None:
    """The stream lives until the client ACKed that it listens no more; then nothing lets it in."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            listeners = await settled(client)
            await REMOVALS[how](cf, holder)
            response = await withdrawn(client)

            assert "listener-8080-61443" in listeners
            assert sorted(response.removed_resources) == sorted(listeners)
            assert not response.resources
            assert cf.running.core.nodes.streams(holder.guid)

            await client.ack(response)
            assert await acked_to_the_end(client) == ENDED

        assert await refused_stream(cf, holder) == ENDED


async def test_a_client_that_does_not_answer_is_sent_away_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody stays by keeping quiet: after a while the stream ends without the ACK."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.3)
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await settled(client)
            await cf.remove(holder.guid)

            assert (await withdrawn(client)).removed_resources
            assert await client.status() == ENDED
            assert not cf.running.core.nodes.streams(holder.guid)


async def test_who_comes_back_during_the_farewell_is_told_and_no_more(tmp_path: Path) -> None:
    """While the old stream waits for its ACK, the same certificate opens one that gets nothing."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client, stream(cf, holder) as other:
            listeners = await settled(client)
            await cf.remove(holder.guid)
            await withdrawn(client)
            await other.subscribe(SECRET, C2C_SECRET, ID_SECRET)
            assert await other.is_silent()
            await other.subscribe(LISTENER, has=dict.fromkeys(listeners, "old"))

            assert await lost(other) == {*listeners}
            assert await other.status() == ENDED
            assert cf.running.core.nodes.streams(holder.guid)

        await is_gone(cf, holder)
        assert cf.running.core.nodes.snapshot(holder.guid) is None


@pytest.mark.parametrize("how", REMOVALS)
@pytest.mark.parametrize("is_started_again", [False, True], ids=["away", "away across a restart"])
async def test_who_was_away_is_told_when_it_comes_back(
    tmp_path: Path, how: str, *, is_started_again: bool
) -> None:
    """What it says that it has is taken from it, it gets no secret, and it is sent away."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            listeners = await settled(client)
        await is_gone(cf, holder)
        await REMOVALS[how](cf, holder)
        if is_started_again:
            await cf.stop()
            await cf.start()
        with capture_logs() as lines:
            async with stream(cf, holder) as client:
                await client.subscribe(CLUSTER, has={"service-cluster-8080": "old"})
                await client.subscribe(LISTENER, has=dict.fromkeys(listeners, "old"))
                await client.subscribe(EXTENSION_CONFIG, FILTER, has={FILTER: "old"})
                await client.subscribe(SECRET, C2C_SECRET, ID_SECRET)
                await client.subscribe(NAME_TABLE_TYPE, NAME_TABLE, has={NAME_TABLE: "old"})

                names = {*listeners, "service-cluster-8080", NAME_TABLE}
                assert await lost(client) - {FILTER} == names
                assert await client.status() == ENDED
            await is_gone(cf, holder)
            assert await refused_stream(cf, holder) == ENDED

        refusals = told(lines, log_events.AUDIT_NODE_REFUSED)
        details = str(removed(InstanceGuid(holder.guid)))
        assert [each["reason"] for each in refusals] == [details] * 2
        assert not told(lines, log_events.AUDIT_NAME_DENIED)
        assert await cf.instances_of("app-b") == []


async def test_a_client_of_complete_states_is_told_by_empty_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that says it has nothing already, which is told nothing more and sent away."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.3)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        await cf.remove(holder.guid)
        versions: dict[str, str] = {CLUSTER: "old", LISTENER: "old"}
        for started in (1, 2):
            async with sotw_stream(cf, holder) as client:
                client.versions |= versions
                await client.subscribe(CLUSTER)
                await client.subscribe(LISTENER)
                await client.subscribe(SECRET, C2C_SECRET)
                if started == 1:
                    for type_url in (CLUSTER, LISTENER):
                        response = await client.receive()
                        assert (response.type_url, len(response.resources)) == (type_url, 0)
                        await client.ack(response)
                    versions = dict(client.versions)
                assert await client.status() == ENDED
            await is_gone(cf, holder)
            assert await refused_stream(cf, holder) == ENDED
            await cf.stop()
            await cf.start()


async def test_nobody_else_is_told_of_a_removal(tmp_path: Path) -> None:
    """Another's certificate, one of another app or one that has ended, opens nothing."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        request = identity_request(cf, holder)
        ours = issued(cf, request, guid=holder.guid, lifetime=timedelta(minutes=1))
        foreign = issued(cf, replace(request, app_guid=AppGuid("app-x")), guid=holder.guid)
        await cf.remove(holder.guid)
        details = str(removed(InstanceGuid(holder.guid)))

        another = (
            f"must be the instance of the certificate, {there.holder.guid}, not {holder.guid!r}"
        )
        assert await refused_stream(cf, replace(there.holder, guid=holder.guid)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            f"node.id {another}",
        )
        denied = (grpc.StatusCode.PERMISSION_DENIED, details)
        assert await refused_stream(cf, replace(holder, guid=there.holder.guid)) == denied
        assert await refused_stream(cf, foreign) == denied
        clock.shift = timedelta(minutes=2)
        assert (await refused_stream(cf, ours))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert not cf.running.core.nodes.streams(holder.guid)


async def test_who_was_told_is_refused_at_the_door_before_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an instance had the time to hear that it was removed, it gets no stream any more."""
    monkeypatch.setattr(farewells, "LATE_SECONDS", 0.0)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        await cf.remove(holder.guid)
        async with stream(cf, holder) as client:
            await client.subscribe(LISTENER)
            assert await acked_to_the_end(client) == ENDED

        details = str(removed(InstanceGuid(holder.guid)))
        assert await refused_stream(cf, holder) == (grpc.StatusCode.PERMISSION_DENIED, details)
        assert cf.running.ports.discovery.refused[grpc.StatusCode.PERMISSION_DENIED] == 1


async def _together(
    cf: Platform,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Awaitable[object],
    removal: Awaitable[None],
) -> Status:
    """Have both written in one transaction, and return how the attempt is refused."""
    disk, waiting = SlowDisk(), cf.running.core.registry._waiting
    with monkeypatch.context() as patch:
        disk.slows_down(patch)
        before = asyncio.ensure_future(cf.create_app("before"))
        await disk.begun.wait()
        attempted = asyncio.ensure_future(refused(attempt))
        await eventually(lambda: len(waiting) == 1, "the attempt waits")
        removing = asyncio.ensure_future(removal)
        await eventually(lambda: len(waiting) == 2, "the removal waits")
        disk.go_on.set()
        await asyncio.gather(before, removing)
        return await attempted


@pytest.mark.parametrize("how", REMOVALS)
async def test_who_is_removed_while_it_renews_gets_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nothing of it is left that the removal did not know of."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        with capture_logs() as lines:
            moves = renew(cf, holder, "127.0.0.1")
            status = await _together(cf, monkeypatch, moves, REMOVALS[how](cf, holder))
        core = cf.running.core

        assert status == (
            grpc.StatusCode.PERMISSION_DENIED,
            str(removed(InstanceGuid(holder.guid))),
        )
        assert not told(lines, log_events.AUDIT_IDENTITY_RENEWED)
        assert len(told(lines, log_events.AUDIT_RENEWAL_REFUSED)) == 1
        assert core.identities._counting == {}
        assert not core.identities.is_starting(InstanceGuid(holder.guid))
        assert not core.holdings.has_any(InstanceGuid(holder.guid))


async def test_who_enrols_while_its_app_is_deleted_gets_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of the attempt but a line in the audit log that it was refused."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        with capture_logs() as lines:
            code, _ = await _together(cf, monkeypatch, somebody.enrol(), delete_app(cf, "app-b"))
        core = cf.running.core

        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert not told(lines, log_events.AUDIT_ENROLLED)
        assert len(told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)) == 1
        assert (core.identities._counting, core.identities._issued_at) == ({}, {})
        assert core.holdings._used == {}
