"""How long an identity is proof: renewal, theft, and the end of a certificate."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import identity_pb2, identity_pb2_grpc, sidecar_pb2, sidecar_pb2_grpc
from control_plane.ca import make_csr, new_key_pair, read_certificate
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import Instance
from control_plane.model.instances import register_instance
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership import farewells
from control_plane.server.access import identity_watch, instance_proof
from control_plane.server.access.identity_watch import SETTLING_SECONDS
from control_plane.xds.resource_type import SECRET
from tests.security.holders import Holder, identity_request, issued
from tests.security.slow_disk import fill_up
from tests.security.sockets import client_context, shown_by, tls_ports
from tests.security.world import (
    C2C_SECRET,
    ShiftedClock,
    Status,
    bystander,
    control_plane,
    enrol,
    facts,
    map_route,
    refused,
    refused_stream,
    renew,
    stream,
    told,
)
from tests.sidecar.platform import Platform
from tests.xds_client import DeltaClient

SLACK = 3.0
"""Seconds that a busy machine may need beyond what it waits for."""


async def tried(cf: Platform, channel: grpc.aio.Channel) -> list[Status]:
    """Return how each way of using an identity ends that is expected to fail."""
    renewal = identity_pb2.RenewRequest(csr=make_csr(new_key_pair()))
    before = facts(cf)
    statuses = [
        await refused(identity_pb2_grpc.IdentityServiceStub(channel).Renew(renewal)),
        await refused(
            sidecar_pb2_grpc.SidecarServiceStub(channel).Report(sidecar_pb2.ReportRequest())
        ),
    ]
    assert facts(cf) == before
    return statuses


async def uses(cf: Platform, holder: Holder) -> list[Status]:
    """Try a stream, a renewal and a report, each of which must be refused."""
    async with holder.connect(cf.running.xds_address) as channel:
        return [await refused_stream(cf, holder), *await tried(cf, channel)]


async def is_served(cf: Platform, holder: Holder) -> bool:
    """Tell whether an identity opens a stream and gets its certificate."""
    async with stream(cf, holder) as client:
        await client.subscribe(SECRET, C2C_SECRET)
        return bool((await client.receive()).resources)


async def test_an_identity_renews_itself_and_no_other(tmp_path: Path) -> None:
    """The renewed certificate is the same instance's, for the new key, with a newer serial."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        new = await renew(cf, old)
        before, after = read_certificate(old.chain), read_certificate(new.chain)

        assert after.san == before.san
        assert after.public_key == new.key.public
        assert after.serial != before.serial
        assert await is_served(cf, new)


@pytest.mark.parametrize("is_started_again", [False, True], ids=["at once", "after a restart"])
async def test_an_instance_that_was_removed_cannot_renew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_started_again: bool
) -> None:
    """Whatever it tries with its valid certificate, it is told that it was removed."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.1)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        removed = await enrol(cf, "app-b", "127.0.2.1")
        await cf.remove(removed.guid)
        if is_started_again:
            await cf.stop()
            await cf.start()
        with capture_logs() as lines:
            opened, *others = await uses(cf, removed)

        details = str(instance_proof.removed(InstanceGuid(removed.guid)))
        assert set(others) == {(grpc.StatusCode.PERMISSION_DENIED, details)}
        assert opened == (grpc.StatusCode.PERMISSION_DENIED, "this instance was removed")
        assert len(told(lines, log_events.AUDIT_NODE_REFUSED)) == 1 + len(others)
        assert not told(lines, log_events.CERTIFICATE_ISSUED)
        assert await cf.instances() == []


async def test_an_identity_is_no_proof_to_be_an_instance_of_another_app(tmp_path: Path) -> None:
    """The GUID of a removed instance may be registered again, and for whatever app."""

    def again(state: State) -> Decision[Instance]:
        other = find_app(state, "app-c", DEFAULT_ORG, DEFAULT_SPACE).guid
        return register_instance(state, removed.guid, other, "127.0.2.2")

    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        removed = await enrol(cf, "app-b", "127.0.2.1")
        await cf.remove(removed.guid)
        await cf.running.core.registry.execute(again)

        refusals = set(await uses(cf, removed))
        assert {code for code, _ in refusals} == {grpc.StatusCode.PERMISSION_DENIED}
        assert all("is not of the app that the certificate says" in each for _, each in refusals)


async def test_an_instance_moves_to_where_it_connects_from_only(tmp_path: Path) -> None:
    """It is known by its new address at once; an address that is not its own is refused."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        here = await enrol(cf, "app-b", "127.0.2.1")
        before = facts(cf)
        with capture_logs() as lines:
            elsewhere = await refused(renew(cf, here, "127.0.2.2"))
            taken = await refused(renew(cf, here, "127.0.0.9"))

        rule = "an instance may move to the address that it connects from, 127.0.0.1, not to "
        assert elsewhere == (grpc.StatusCode.PERMISSION_DENIED, f"{rule}'127.0.2.2'")
        assert taken == (grpc.StatusCode.PERMISSION_DENIED, f"{rule}'127.0.0.9'")
        assert facts(cf) == before
        assert len(told(lines, log_events.AUDIT_RENEWAL_REFUSED)) == 2

        moved = await renew(cf, here, "127.0.0.1")

        assert read_certificate(moved.chain).san.ips == ("127.0.0.1",)
        assert [each.address for each in await cf.instances_of("app-b")] == ["127.0.0.1"]


async def test_a_renewal_that_is_refused_costs_nothing(tmp_path: Path) -> None:
    """A bad signing request leaves the identity as good as it was."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        bad = identity_pb2.RenewRequest(csr=b"x", address="127.0.0.1")
        async with holder.connect(cf.running.xds_address) as channel:
            code, _ = await refused(identity_pb2_grpc.IdentityServiceStub(channel).Renew(bad))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.address for each in await cf.instances()] == ["127.0.2.1"]
        assert await is_served(cf, holder)


async def test_a_stolen_identity_is_worth_nothing_after_the_next_renewal(tmp_path: Path) -> None:
    """Once the newer certificate was used, the older opens no stream and renews nothing."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        stolen = await enrol(cf, "app-b", "127.0.2.1")
        async with stolen.connect(cf.running.xds_address) as channel:
            renewed = await renew(cf, stolen)

            assert await is_served(cf, renewed)

            with capture_logs() as lines:
                statuses = await tried(cf, channel) + await uses(cf, stolen)

        details = (
            f"certificate {stolen.serial:x} of instance {stolen.guid} does not count any more, "
            "since a newer one was used: if that was not you, remove the instance"
        )
        assert set(statuses) == {(grpc.StatusCode.UNAUTHENTICATED, details)}
        refusals = told(lines, log_events.AUDIT_NODE_REFUSED)
        assert [each["reason"] for each in refusals] == [details] * len(statuses)
        assert await is_served(cf, renewed)


async def test_a_renewal_whose_answer_was_lost_locks_nobody_out(tmp_path: Path) -> None:
    """As long as the newer certificate was not used, the older one counts and can be renewed."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        await renew(cf, holder)  # and nobody hears the answer

        assert await is_served(cf, holder)
        assert await is_served(cf, await renew(cf, holder))


async def test_a_stream_on_an_older_identity_is_ended_soon_after_renewal(tmp_path: Path) -> None:
    """It ends with UNAVAILABLE, so that Envoy comes back with what it has by then."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
            new = await renew(cf, old)
            async with stream(cf, new) as newer, asyncio.timeout(SETTLING_SECONDS + SLACK):
                await newer.subscribe(SECRET, C2C_SECRET)
                await newer.receive()

                assert await client.status() == (
                    grpc.StatusCode.UNAVAILABLE,
                    "a newer certificate was issued to this instance: come back",
                )

                assert await newer.is_silent()
                assert len(cf.running.core.nodes.streams(old.guid)) == 1


async def test_a_renewal_that_is_not_on_the_disk_ends_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar has nothing newer to come back with; the next renewal is as good as ever."""
    monkeypatch.setattr(identity_watch, "SETTLING_SECONDS", 0.0)

    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.ack(await client.receive())
            with monkeypatch.context() as patch:
                fill_up(patch)
                code, _ = await refused(renew(cf, old, "127.0.0.1"))
            assert code is grpc.StatusCode.UNAVAILABLE
            await map_route(cf, "app-b", "app-b")
            await client.ack(await client.receive())
            assert await is_served(cf, old)

            new = await renew(cf, old, "127.0.0.1")
            assert await client.status() == (
                grpc.StatusCode.UNAVAILABLE,
                "a newer certificate was issued to this instance: come back",
            )
        assert await is_served(cf, new)
        assert {code for code, _ in await uses(cf, old)} == {grpc.StatusCode.UNAUTHENTICATED}


async def test_renewing_again_and_again_keeps_no_stream_of_an_older_identity(
    tmp_path: Path,
) -> None:
    """The stream ends as soon after the first renewal, whoever goes on renewing meanwhile."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client, asyncio.timeout(SETTLING_SECONDS + SLACK):
            await client.subscribe(SECRET, C2C_SECRET)
            over = asyncio.create_task(client.status())
            while not over.done():
                await renew(cf, old)
                await asyncio.wait([over], timeout=SETTLING_SECONDS / 10)

        assert over.result() == (
            grpc.StatusCode.UNAVAILABLE,
            "a newer certificate was issued to this instance: come back",
        )


async def test_a_stream_ends_before_its_certificate_does(tmp_path: Path) -> None:
    """Whoever does not renew loses the stream while the certificate is still valid."""
    async with control_plane(tmp_path, certificate_lifetime=timedelta(seconds=4)) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            status = await client.status()
            left = read_certificate(holder.chain).not_after - ShiftedClock().now()

        assert status == (grpc.StatusCode.UNAVAILABLE, "the client certificate ends: come back")
        assert left > timedelta(seconds=0.5)


async def test_a_stream_ends_soon_after_the_clock_jumped_over_its_certificates_end(
    tmp_path: Path,
) -> None:
    """The clock of a machine that slept jumps, and the timers of its processes stood still."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        await cf.create_app("app-b")
        async with stream(cf, await enrol(cf, "app-b", "127.0.2.1")) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            assert (await client.receive()).resources
            clock.shift = timedelta(hours=25)
            status = await client.status()

    assert status == (grpc.StatusCode.UNAVAILABLE, "the client certificate ends: come back")


async def test_a_certificate_that_ended_is_no_proof_on_an_open_connection(tmp_path: Path) -> None:
    """The handshake was long ago: new streams, renewals and reports on it are refused."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        short = issued(cf, identity_request(cf, holder), guid=holder.guid)
        async with short.connect(cf.running.xds_address) as channel:
            async with DeltaClient(channel, short.guid) as client:
                await client.subscribe(SECRET, C2C_SECRET)

                assert (await client.receive()).resources

            clock.shift = timedelta(hours=1, minutes=1)
            async with DeltaClient(channel, short.guid) as client:
                await client.subscribe(SECRET, C2C_SECRET)
                statuses = [await client.status(), *await tried(cf, channel)]

        assert {code for code, _ in statuses} == {grpc.StatusCode.UNAUTHENTICATED}
        assert all(each.startswith("client certificate ended at ") for _, each in statuses)


async def test_the_servers_certificate_is_renewed_without_dropping_a_stream(tmp_path: Path) -> None:
    """Every port shows the new one in the next handshake, and who is connected never notices."""
    clock = ShiftedClock(-timedelta(hours=14))
    async with control_plane(tmp_path, clock) as cf, bystander(cf) as there:
        tls = client_context(there.holder, tmp_path)
        (before,) = {await shown_by(port, tls) for port in tls_ports(cf)}
        clock.shift = timedelta()
        with capture_logs() as lines:
            (after,) = {await shown_by(port, tls) for port in tls_ports(cf)}

        assert after != before
        (line,) = told(lines, log_events.SERVER_CERTIFICATE_RENEWED)
        assert line["serial"] == f"{after:x}"
        await there.rotates()
        await cf.create_app("newcomer")
        assert await is_served(cf, await enrol(cf, "newcomer", "127.0.0.2"))
