"""Every method of every discovery service, over a real connection."""

from __future__ import annotations

import grpc
import pytest

from control_plane.server.discovery.methods import SERVICES, DiscoveryMethods
from control_plane.xds.resource_type import CLUSTER, RUNTIME, SECRET
from tests.server.world import names, resource, served
from tests.xds_client import DeltaClient, SotwClient, StreamEnded

BOTH = [each for each in SERVICES if not each.delta_only]
URL = RUNTIME


def path(methods: DiscoveryMethods, prefix: str) -> str:
    """Return the path of one of a service's methods."""
    return f"/{methods.service}/{prefix}{methods.noun}"


@pytest.mark.parametrize("methods", BOTH, ids=lambda each: each.noun)
async def test_each_sotw_method_serves(methods: DiscoveryMethods) -> None:
    """Stream... of every service answers a subscription and pushes changes (V1, V2, V3)."""
    url = methods.only or URL
    async with (
        served() as world,
        SotwClient(world.channel, "node-1", path(methods, "Stream")) as client,
    ):
        world.set("node-1", resource(url, "a", "1"))
        await client.subscribe(url, "a")
        first = await client.receive()
        await client.ack(first)
        world.set("node-1", resource(url, "a", "2"))
        second = await client.receive()

        assert [(each.type_url, each.value) for each in first.resources] == [(url, b"1")]
        assert [(each.type_url, each.value) for each in second.resources] == [(url, b"2")]
        assert first.control_plane.identifier == "c2c-control-plane"
        assert first.nonce
        assert first.nonce != second.nonce


@pytest.mark.parametrize("methods", SERVICES, ids=lambda each: each.noun)
async def test_each_delta_method_serves(methods: DiscoveryMethods) -> None:
    """Delta... of every service answers a subscription and pushes changes (V1, V2, V3)."""
    url = methods.only or URL
    async with (
        served() as world,
        DeltaClient(world.channel, "node-1", path(methods, "Delta")) as client,
    ):
        world.set("node-1", resource(url, "a", "1"))
        await client.subscribe(url, "a", "missing")
        first = await client.receive()
        seen = {*names(first.resources), *first.removed_resources}
        await client.ack(first)
        if "missing" not in seen or "a" not in seen:  # SDS sends one a response
            second = await client.receive()
            seen |= {*names(second.resources), *second.removed_resources}
            await client.ack(second)
        world.set("node-1", resource(url, "a", "2"))
        update = await client.receive()

        assert seen == {"a", "missing"}
        assert [each.resource.value for each in update.resources] == [b"2"]
        assert update.control_plane.identifier == "c2c-control-plane"


@pytest.mark.parametrize("kind", [SotwClient, DeltaClient])
async def test_the_type_is_implied_by_the_service(
    kind: type[SotwClient | DeltaClient],
) -> None:
    """A request of a per-type service need not name the type, and is answered with it (V4)."""
    secrets = next(each for each in SERVICES if each.only == SECRET)
    method = path(secrets, "Stream" if kind is SotwClient else "Delta")
    field = "resource_names" if kind is SotwClient else "resource_names_subscribe"
    async with served() as world, kind(world.channel, "node-1", method) as client:
        world.set("node-1", resource(SECRET, "a"))
        await client.send(**{field: ["a"]})

        assert (await client.receive()).type_url == SECRET


async def test_a_service_of_one_type_refuses_another() -> None:
    """A per-type service given another type's URL ends the stream with INVALID_ARGUMENT (V4)."""
    secrets = next(each for each in SERVICES if each.only == SECRET)
    async with (
        served() as world,
        SotwClient(world.channel, "node-1", path(secrets, "Stream")) as client,
    ):
        await client.subscribe(CLUSTER)
        code, details = await client.status()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert SECRET in details
    assert "Cluster" in details


async def test_the_aggregated_service_needs_a_type() -> None:
    """On ADS a request without type_url ends the stream with INVALID_ARGUMENT (V4)."""
    async with served() as world, SotwClient(world.channel, "node-1") as client:
        await client.send()

        with pytest.raises(StreamEnded, match="INVALID_ARGUMENT: type_url is required"):
            await client.receive()
