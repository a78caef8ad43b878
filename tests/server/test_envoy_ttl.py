"""Resources that an Envoy drops by itself once it does not hear of the server any more (TTL)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf.json_format import ParseDict

from control_plane.server.library import ResourceServer, resource_of
from control_plane.xds.resource import Resource
from tests.envoy.harness import Envoy, until
from tests.server.envoys import NODE, accepted, envoy_of, listener
from tests.server.test_envoy_client import cluster as eds_cluster
from tests.server.test_envoy_client import endpoints, routes
from tests.waiting import eventually

FEATURES = ("xds.config.supports-resource-ttl", "xds.config.resource-in-sotw")
TTL = 2.0

VARIANTS = pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])


def cluster(name: str, ttl: float | None = None, *, timeout: str = "5s") -> Resource:
    """Return a cluster without endpoints."""
    fields = {"name": name, "type": "STATIC", "connect_timeout": timeout}
    return resource_of(ParseDict(fields, cluster_pb2.Cluster()), ttl=ttl)


async def has(envoy: Envoy, *names: str) -> bool:
    """Tell whether these are the clusters that an Envoy has from the server."""
    lines = (await envoy.admin("/clusters")).splitlines()
    return {line.partition("::")[0] for line in lines} - {"xds"} == {*names}


async def stays(envoy: Envoy, *names: str) -> None:
    """Return after one and a half TTLs in which an Envoy had these clusters all the time."""
    end = asyncio.get_running_loop().time() + 1.5 * TTL

    async def probe() -> bool:
        assert await has(envoy, *names)
        return asyncio.get_running_loop().time() > end

    await until(probe, what="time passes")


def rejected(stats: dict[str, int]) -> list[str]:
    """Return what of an Envoy's statistics says that it refused something."""
    return [name for name in stats if name.endswith("update_rejected") and stats[name]]


def refused(server: ResourceServer, name: str) -> bool:
    """Tell whether the Envoy refused a cluster, and has yet to accept other content of it."""
    found = {each.name: each for each in server.deliveries(NODE)}
    return found[name].refusal is not None


@VARIANTS
async def test_what_has_a_ttl_lives_as_long_as_the_server_is_heard_of(api_type: str) -> None:
    """T1, T2, T3: heartbeats keep it, and are no updates; without them it goes, and only it."""
    async with AsyncExitStack() as running:
        async with ResourceServer() as server:
            server.set_resources(NODE, [cluster("a", TTL), cluster("b")])
            envoy = await running.enter_async_context(envoy_of(server, api_type, features=FEATURES))
            await accepted(server)
            before = server.deliveries(NODE)
            await stays(envoy, "a", "b")
            assert server.deliveries(NODE) == before
            server.set_resources(NODE, [cluster("a", TTL), cluster("b", timeout="6s")])
            await accepted(server)
            await stays(envoy, "a", "b")
            stats = await envoy.stats()
        await until(lambda: has(envoy, "b"), what="the one without a TTL is left")

    assert stats["cluster_manager.cluster_modified"] == 1
    assert rejected(stats) == []


@VARIANTS
async def test_a_ttl_comes_and_goes_with_the_content_unchanged(api_type: str) -> None:
    """T4: it is told at once, and taken away by the content without it."""
    async with AsyncExitStack() as running:
        async with ResourceServer() as server:
            server.set_resources(NODE, [cluster("a"), cluster("b", TTL)])
            envoy = await running.enter_async_context(envoy_of(server, api_type, features=FEATURES))
            await accepted(server)
            server.set_resources(NODE, [cluster("a", TTL), cluster("b")])
            await stays(envoy, "a", "b")
            stats = await envoy.stats()
        await until(lambda: has(envoy, "b"), what="the one whose TTL came is gone")
        await stays(envoy, "b")

    assert rejected(stats) == []


@VARIANTS
async def test_a_ttl_that_is_taken_away_while_the_server_is_away_ends_nothing(
    api_type: str,
) -> None:
    """T4, C1, C3: the content comes once more, or the TTL of the earlier stream would run out."""
    async with AsyncExitStack() as running:
        server = ResourceServer()
        async with server:
            server.set_resources(NODE, [cluster("a", 2 * TTL)])
            envoy = await running.enter_async_context(envoy_of(server, api_type, features=FEATURES))
            await accepted(server)
        server.set_resources(NODE, [cluster("a")])
        async with server:
            await accepted(server)
            for _ in range(2):
                await stays(envoy, "a")
            stats = await envoy.stats()

    assert stats.get("cluster_manager.cluster_removed", 0) == 0
    assert rejected(stats) == []


@VARIANTS
async def test_what_ended_while_the_server_hung_is_sent_again(api_type: str) -> None:
    """T2: a heartbeat that comes too late tells the server that the client let go."""
    async with ResourceServer() as server:
        server.set_resources(NODE, [cluster("a", TTL), cluster("b")])
        async with envoy_of(server, api_type, features=FEATURES) as envoy:
            await accepted(server)
            time.sleep(1.5 * TTL)  # noqa: ASYNC251 - it is to hang
            await until(lambda: has(envoy, "a", "b"), what="both are there again")
            await accepted(server)
            await stays(envoy, "a", "b")
            stats = await envoy.stats()

    assert stats["cluster_manager.cluster_removed"] == 1


@VARIANTS
async def test_what_has_a_ttl_outlives_another_cluster_that_is_refused(api_type: str) -> None:
    """T2, T3, A7: a heartbeat has what the other one was before, and Envoy goes on with that."""
    async with AsyncExitStack() as running:
        async with ResourceServer() as server:
            kept = cluster("a", TTL)
            server.set_resources(NODE, [kept, cluster("b")])
            envoy = await running.enter_async_context(envoy_of(server, api_type, features=FEATURES))
            await accepted(server)
            server.set_resources(NODE, [kept, cluster("b", timeout="-5s")])
            await eventually(lambda: refused(server, "b"), "Envoy refused the other")
            for _ in range(3):
                await stays(envoy, "a", "b")
            assert refused(server, "b")
            server.set_resources(NODE, [kept, cluster("b", timeout="6s")])
            await accepted(server)
            await stays(envoy, "a", "b")
            stats = await envoy.stats()
        await until(lambda: has(envoy, "b"), what="the one without a TTL is left")

    assert stats.get("cluster_manager.cluster_removed", 0) == 0


@VARIANTS
async def test_an_envoy_that_does_not_ask_for_ttls_is_sent_none(api_type: str) -> None:
    """T1, N4: it keeps what it has, whatever becomes of the server."""
    async with AsyncExitStack() as running:
        async with ResourceServer() as server:
            server.set_resources(NODE, [cluster("a", TTL)])
            envoy = await running.enter_async_context(envoy_of(server, api_type))
            await accepted(server)
        await stays(envoy, "a")


@VARIANTS
async def test_an_envoy_outlives_the_ttls_of_what_its_clusters_and_listeners_name(
    api_type: str,
) -> None:
    """T1: in SotW it would crash at the end of a TTL of endpoints or routes, so it is told none."""
    ends = cluster("ends", TTL)
    named = [resource_of(each, ttl=TTL) for each in (endpoints("a"), routes("a"))]
    async with AsyncExitStack() as running:
        async with ResourceServer() as server:
            server.set_resources(NODE, [ends, eds_cluster("a"), *named, listener("a")])
            envoy = await running.enter_async_context(envoy_of(server, api_type, features=FEATURES))
            await accepted(server)
        await until(lambda: has(envoy, "a"), what="the cluster ended")
        await stays(envoy, "a")
