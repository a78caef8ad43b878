"""Who is let in by an admission that does not answer as it should: nobody."""

from __future__ import annotations

import asyncio
from typing import cast

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.server.access.admission import Admission, PeerContext
from control_plane.server.library import ResourceServer
from control_plane.server.lrs.load_reports import LoadReports
from control_plane.xds.messages import Node
from control_plane.xds.resource_type import CLUSTER
from tests.xds_client import DeltaClient, plaintext_channel


class Saying:
    """An admission that would refuse with a word."""

    def admit(self, _node: Node, _context: PeerContext) -> bool:
        """Say no, and raise nothing."""
        return False


class Later:
    """An admission that would refuse later."""

    def admit(self, _node: Node, _context: PeerContext) -> asyncio.Future[None]:
        """Return what somebody may await, as an ``async def`` does."""
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("admission", [Saying(), Later()], ids=["False", "awaitable"])
async def test_who_is_refused_with_a_word_or_later_is_not_let_in(admission: object) -> None:
    """Streams of resources and of load reports end without a word, and the log says why."""
    server = ResourceServer(
        admission=cast("Admission", admission), load_reports=LoadReports(lambda *_: None)
    )
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    with capture_logs() as lines:
        async with server, plaintext_channel(server.address) as channel:
            async with DeltaClient(channel, "n") as client:
                await client.subscribe(CLUSTER)
                assert await client.status() == (grpc.StatusCode.INTERNAL, "internal error")
            reports = lrs_pb2_grpc.LoadReportingServiceStub(channel).StreamLoadStats()
            await reports.write(lrs_pb2.LoadStatsRequest(node={"id": "n"}))
            assert await reports.code() is grpc.StatusCode.INTERNAL

    assert [each["event"] for each in lines] == [log_events.STREAM_FAILED, log_events.CALL_FAILED]
    for line in lines:
        assert "admit() raises, or returns None" in str(line["exc_info"])
