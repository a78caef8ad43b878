"""An instance that was removed: its listeners are withdrawn, then it is sent away for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from control_plane.reconciler import reconciler
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.security.holders import Holder
from tests.security.world import (
    C2C_SECRET,
    Status,
    bystander,
    control_plane,
    delete_app,
    enrol,
    refused_stream,
    stream,
)
from tests.sidecar.platform import Platform
from tests.xds_client import PATIENCE, DeltaClient, Response, StreamEnded

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

        details = f"instance {holder.guid} was removed"
        assert await refused_stream(cf, holder) == (grpc.StatusCode.PERMISSION_DENIED, details)


async def test_a_client_that_does_not_answer_is_sent_away_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody stays by keeping quiet: after a while the stream ends without the ACK."""
    monkeypatch.setattr(reconciler, "_FAREWELL_SECONDS", 0.3)
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await settled(client)
            await cf.remove(holder.guid)

            assert (await withdrawn(client)).removed_resources
            assert await client.status() == ENDED
            assert not cf.running.core.nodes.streams(holder.guid)


async def test_who_comes_back_during_the_farewell_is_refused(tmp_path: Path) -> None:
    """While the old stream waits for its ACK, the same certificate opens no other."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await settled(client)
            await cf.remove(holder.guid)
            await withdrawn(client)
            code, details = await refused_stream(cf, holder)

        assert (code, details) == (
            grpc.StatusCode.PERMISSION_DENIED,
            f"instance {holder.guid} was removed",
        )
