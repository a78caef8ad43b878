"""Whatever an xDS client sends, its stream ends with a reason or goes on, and no other notices."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DynamicParameterConstraints
from hypothesis import given
from hypothesis import strategies as st

from control_plane.server.discovery.wire_constraints import read_constraints
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER, SECRET
from tests.fuzz.budget import CALL
from tests.fuzz.sensible import requests
from tests.server.world import resource, served
from tests.xds_client import DeltaClient, SotwClient, StreamEnded

KINDS: tuple[type[SotwClient | DeltaClient], ...] = (SotwClient, DeltaClient)

RAWS = {
    kind: st.lists(requests(kind.request_type, "ill"), min_size=1, max_size=5) for kind in KINDS
}

ENVS = [
    read_constraints(DynamicParameterConstraints(constraint={"key": "env", "value": env}))
    for env in ("prod", "test")
]

ALLOWED = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""How a stream may end whose client makes no sense, or goes away."""

HANGS = 30.0
"""Seconds after which an example has failed; it takes less than one."""


async def tell(client: SotwClient | DeltaClient, raws: list[bytes]) -> None:
    """Send one request after another, until the server ends the stream."""
    with suppress(StreamEnded, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for raw in raws:
            await client.send_raw(raw)
            while not await client.is_silent(0.01):
                pass


async def send_all(kind: type[SotwClient | DeltaClient], raws: list[bytes]) -> None:
    """Send one request after another; then see that somebody else is served."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(served())
        for node in ("ill", "well"):
            variants = (Resource.of(CLUSTER, "c", b"1", constraints=each) for each in ENVS)
            world.set(node, resource(SECRET, "a", "1"), *variants)
        ill: SotwClient | DeltaClient = kind(world.channel, "ill")
        await stack.enter_async_context(ill)
        await tell(ill, raws)
        well = await stack.enter_async_context(DeltaClient(world.channel, "well"))
        await well.subscribe(SECRET, "a")
        assert [each.name for each in (await well.receive()).resources] == ["a"]
        # A client that was writing when its stream ended is not told why by grpc.aio.
        assert world.service.ended.keys() <= ALLOWED


@pytest.mark.parametrize("kind", KINDS)
@CALL
@given(data=st.data())
def test_whatever_a_client_sends_the_others_are_served(
    kind: type[SotwClient | DeltaClient], data: st.DataObject
) -> None:
    """A request that is none, or makes no sense, ends its own stream at the most."""
    raws = data.draw(RAWS[kind])

    asyncio.run(asyncio.wait_for(send_all(kind, raws), HANGS))
