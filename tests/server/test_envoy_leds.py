"""Envoy asks for the endpoints of a locality by their collection (LEDS)."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import LB_ENDPOINT
from tests.envoy.harness import Envoy, until
from tests.server.envoys import NODE, OVER_ADS, OVER_ITS_OWN, accepted, envoy_of

IN = "xdstp://cp.test/envoy.config.endpoint.v3.LbEndpoint/"
PATIENCE = 10.0
"""Seconds that a change may take: a third less than Envoy waits for endpoints that never come."""


def cluster(
    source: dict[str, Any], *zones: str, name: str = "web", timeout: str = "1s"
) -> list[Message]:
    """Return a cluster, and where the endpoints of its zones are from."""
    eds = {"type": "EDS", "eds_cluster_config": {"eds_config": OVER_ADS}}
    localities = [
        {
            "locality": {"zone": zone},
            "leds_cluster_locality_config": {
                "leds_config": source,
                "leds_collection_name": f"{IN}{zone}/*",
            },
        }
        for zone in zones
    ]
    assignment = {"cluster_name": name, "endpoints": localities}
    return [
        ParseDict({"name": name, "connect_timeout": timeout, **eds}, cluster_pb2.Cluster()),
        ParseDict(assignment, endpoint_pb2.ClusterLoadAssignment()),
    ]


def endpoint(name: str, port: int) -> Resource:
    """Return an endpoint, which is a message that does not tell its name."""
    at = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    message = ParseDict({"endpoint": at}, endpoint_components_pb2.LbEndpoint())
    return Resource.of(LB_ENDPOINT, IN + name, message.SerializeToString(deterministic=True))


async def has(envoy: Envoy, *ports: int, timeout: str = "1s") -> None:
    """Return once the Envoy uses a cluster with this timeout, and these endpoints."""

    async def probe() -> bool:
        configs = await envoy.config_dump()
        found = next(each for each in configs if "dynamic_active_clusters" in each)
        (active,) = found["dynamic_active_clusters"]
        lines = (await envoy.admin("/clusters")).splitlines()
        hosts = {line.split("::")[1] for line in lines if line.startswith("web::127.")}
        is_used = active["cluster"]["connect_timeout"] == timeout
        return is_used and hosts == {f"127.0.0.1:{port}" for port in ports}

    await until(probe, what=f"Envoy has the endpoints {ports}", timeout=PATIENCE)


@pytest.mark.parametrize(
    "source", [pytest.param(OVER_ADS, id="ads"), pytest.param(OVER_ITS_OWN, id="own-stream")]
)
async def test_an_envoy_has_the_endpoints_of_its_localities(source: dict[str, Any]) -> None:
    """V2, E4: it is sent those that are in the collections, and what is changed, added or gone."""
    base = cluster(source, "a", "b")
    one, two = endpoint("a/1", 1001), endpoint("b/2", 1002)
    async with ResourceServer() as server:
        server.set_resources(NODE, [*base, one, two])
        async with envoy_of(server, "DELTA_GRPC") as envoy:
            await has(envoy, 1001, 1002)
            server.set_resources(NODE, [*base, endpoint("a/1", 1003), endpoint("a/4", 1004)])
            await has(envoy, 1003, 1004)
            server.set_resources(NODE, [*base, one, two])
            await has(envoy, 1001, 1002)
            await accepted(server)


async def test_a_cluster_that_changes_keeps_the_endpoints_of_its_localities() -> None:
    """O2: it has them at once, also where a locality has none. Envoy does not ask again."""
    one = endpoint("a/1", 1001)
    async with ResourceServer() as server:
        server.set_resources(NODE, [*cluster(OVER_ADS, "a", "none"), one])
        async with envoy_of(server, "DELTA_GRPC") as envoy:
            await has(envoy, 1001)

            server.set_resources(NODE, [*cluster(OVER_ADS, "a", "none", timeout="2s"), one])

            await has(envoy, 1001, timeout="2s")


async def test_a_second_cluster_has_the_endpoints_of_the_same_localities() -> None:
    """O2: it has them at once, though Envoy asks for them but once."""
    one, web = endpoint("a/1", 1001), cluster(OVER_ADS, "a")
    async with ResourceServer() as server:
        server.set_resources(NODE, [*web, one])
        async with envoy_of(server, "DELTA_GRPC") as envoy:
            await has(envoy, 1001)

            server.set_resources(NODE, [*web, *cluster(OVER_ADS, "a", name="shop"), one])

            async def shop_has_it() -> bool:
                return (await envoy.stats()).get("cluster.shop.membership_total") == 1

            await until(shop_has_it, what="the second cluster has it too", timeout=PATIENCE)
