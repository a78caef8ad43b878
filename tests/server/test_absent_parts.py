"""Parts of xDS that are not there: whoever tries them is told so, and nothing else happens."""

from __future__ import annotations

import grpc
import pytest

from tests.server.world import served
from tests.xds_client import DeltaClient


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
