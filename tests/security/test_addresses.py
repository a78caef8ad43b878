"""An address belongs to one instance that runs, and to whoever comes once that one is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from control_plane.xds.resource_type import SECRET
from tests.security.applicants import Applicant, applicant
from tests.security.world import (
    C2C_SECRET,
    bystander,
    control_plane,
    enrol,
    is_gone,
    refused,
    refused_stream,
    stream,
)


async def test_the_address_of_an_instance_that_runs_is_its_own(tmp_path: Path) -> None:
    """Nobody enrols with it, by a token of its app or of another."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        taken = (
            grpc.StatusCode.ALREADY_EXISTS,
            "address '127.0.0.9' is held by another instance that is running",
        )
        for app in ("app-b", there.app):
            somebody = Applicant(cf, await cf.ticket(app))

            assert await refused(somebody.enrol(address="127.0.0.9")) == taken
        assert len(await cf.instances_of(there.app)) == 1


async def test_the_address_of_an_instance_that_is_gone_passes_on_at_once(tmp_path: Path) -> None:
    """As soon as its streams are gone somebody else may have it, and it cannot come back."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
        await is_gone(cf, old)
        new = await enrol(cf, "app-c", "127.0.2.1")

        assert await refused_stream(cf, old) == (
            grpc.StatusCode.PERMISSION_DENIED,
            f"instance {old.guid} was removed",
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
