"""An address belongs to one instance, until that one is gone for certain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.model.entities import InstanceStatus
from control_plane.names import InstanceGuid
from control_plane.reconciler import farewells, presence
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.security.applicants import Applicant, applicant
from tests.security.holders import Holder
from tests.security.world import (
    C2C_SECRET,
    Status,
    bystander,
    control_plane,
    enrol,
    is_gone,
    refused,
    refused_stream,
    stream,
)
from tests.sidecar.platform import Platform
from tests.xds_client import DeltaClient


def held(address: str) -> Status:
    """Return how an enrolment with an address ends that somebody else has."""
    return (
        grpc.StatusCode.ALREADY_EXISTS,
        f"address '{address}' is held by another instance that is running or may come back",
    )


async def connected(cf: Platform, client: DeltaClient, holder: Holder) -> None:
    """Ask for a certificate, and wait until it is on the disk that the instance is there."""
    await client.subscribe(SECRET, C2C_SECRET)
    await client.ack(await client.receive())
    await has_status(cf, holder, InstanceStatus.READY)


async def has_status(cf: Platform, holder: Holder, status: InstanceStatus) -> None:
    """Wait until an instance is known to be where it is in its life."""

    async def probe() -> bool:
        instance = cf.running.core.registry.state.instance(InstanceGuid(holder.guid))
        return instance is not None and instance.status is status

    await until(probe, what=f"instance {holder.guid} is {status.value}")


async def leave(cf: Platform, holder: Holder) -> None:
    """Say that an instance leaves, as its sidecar does."""
    async with holder.connect(cf.running.xds_address) as channel:
        stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
        await stub.Report(sidecar_pb2.ReportRequest(leaving=True))


async def test_the_address_of_an_instance_that_runs_is_its_own(tmp_path: Path) -> None:
    """Nobody enrols with it, by a token of its app or of another."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        for app in ("app-b", there.app):
            somebody = Applicant(cf, await cf.ticket(app))

            assert await refused(somebody.enrol(address="127.0.0.9")) == held("127.0.0.9")
        assert len(await cf.instances_of(there.app)) == 1


@pytest.mark.parametrize("away", ["its stream broke", "the control plane was started again"])
async def test_the_address_of_an_instance_that_may_come_back_is_its_own(
    tmp_path: Path, away: str
) -> None:
    """Nobody gets it by being faster, and the holder comes back as if nothing had happened."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
        await is_gone(cf, holder)
        if away == "the control plane was started again":
            await cf.stop()
            await cf.start()
        somebody = await applicant(cf, app="app-c")

        assert await somebody.is_refused(address="127.0.2.1") == held("127.0.2.1")
        async with stream(cf, holder) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            assert (await client.receive()).resources
        assert [each.guid for each in await cf.instances()] == [holder.guid]


@pytest.mark.parametrize("how", ["it said that it leaves", "it did not come back in time"])
async def test_the_address_of_an_instance_that_is_gone_passes_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As soon as its end is known somebody else may have it, and it cannot come back."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.1)
    if how == "it did not come back in time":
        monkeypatch.setattr(presence, "GRACE_SECONDS", 0.1)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client:
            await connected(cf, client, old)
            if how == "it said that it leaves":
                await leave(cf, old)
        await is_gone(cf, old)
        if how == "it did not come back in time":
            await has_status(cf, old, InstanceStatus.GONE)
        new = await enrol(cf, "app-c", "127.0.2.1")

        assert await refused_stream(cf, old) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "this instance was removed",
        )
        assert [each.guid for each in await cf.instances()] == [new.guid]


async def test_two_who_start_together_cannot_have_one_address(tmp_path: Path) -> None:
    """The second is refused, though the first has had no time to connect yet."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=2)
        outcomes = await asyncio.gather(
            *(somebody.enrol(address="127.0.2.1") for _ in range(2)), return_exceptions=True
        )
        (refusal,) = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]

        assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
        assert len(await cf.instances_of("app-b")) == 1
        await somebody.enrol(address="127.0.2.2")
