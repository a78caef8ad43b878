"""Load reports as bytes: the reports of clients, and what clients are asked for.

The rule of this module: whatever a client sends, the result is a report or a ``PeerProtocolError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.service.load_stats.v3 import lrs_pb2

from control_plane.errors import PeerProtocolError
from control_plane.server.discovery.wire import bytes_of, decode
from control_plane.server.discovery.wire_node import read_node
from control_plane.xds.messages import Node


def parse_load_report(raw: bytes) -> tuple[Node | None, Sequence[Any]]:
    """Parse a ``LoadStatsRequest``: its node, if it has one, and its ``ClusterStats``.

    Raises:
        PeerProtocolError: the bytes are no such message, or name no cluster.
    """
    request = decode(lrs_pb2.LoadStatsRequest, raw)
    for number, stats in enumerate(request.cluster_stats):
        if not stats.cluster_name:
            raise PeerProtocolError(f"cluster_stats[{number}] has no cluster_name")
    return read_node(request), tuple(request.cluster_stats)


def encode_load_question(
    clusters: Sequence[str], *, all_clusters: bool, interval: float, by_endpoint: bool
) -> bytes:
    """Encode a ``LoadStatsResponse``, which asks for load reports.

    Args:
        clusters: the clusters to report.
        all_clusters: whether to report all clusters.
        interval: seconds from one report to the next.
        by_endpoint: whether to report each endpoint too.
    """
    question = lrs_pb2.LoadStatsResponse(
        clusters=clusters,
        send_all_clusters=all_clusters,
        report_endpoint_granularity=by_endpoint,
    )
    question.load_reporting_interval.FromNanoseconds(round(interval * 1e9))
    return bytes_of(question)
