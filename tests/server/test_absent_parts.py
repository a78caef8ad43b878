"""Parts of xDS that are not there: whoever tries them is told so, and nothing else happens."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from control_plane.xds.resource_type import SECRET
from tests.server.world import resource, served
from tests.xds_client import DeltaClient, SotwClient

LOCATOR = [{"name": "a", "dynamic_parameters": {"env": "prod"}}]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(SotwClient, {"resource_locators": LOCATOR}, id="SotW"),
        pytest.param(DeltaClient, {"resource_locators_subscribe": LOCATOR}, id="subscribe"),
        pytest.param(DeltaClient, {"resource_locators_unsubscribe": LOCATOR}, id="unsubscribe"),
    ],
)
async def test_resource_locators_are_refused(
    kind: type[SotwClient | DeltaClient], fields: dict[str, Any]
) -> None:
    """E3: a request with no names but in locators is none for everything: it ends the stream."""
    async with served() as world, kind(world.channel, "node-1") as client:
        world.set("node-1", resource(SECRET, "a"), resource(SECRET, "not asked for"))
        await client.send(type_url=SECRET, **fields)

        assert await client.status() == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "resource locators are not served: ask by resource names",
        )


@pytest.mark.parametrize(
    "method",
    [
        "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
        "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources",
        "/envoy.api.v2.ClusterDiscoveryService/StreamClusters",
        "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    ],
)
async def test_a_stream_of_another_service_ends_at_once(method: str) -> None:
    """L1: load reports, the API before v3, and on this port CSDS, are UNIMPLEMENTED."""
    async with served() as world, DeltaClient(world.channel, "node-1", method) as client:
        code, _ = await client.status()

        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert world.service.open_streams() == ()
