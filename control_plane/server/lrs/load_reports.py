"""Load reporting (LRS): clients report how many requests each of their clusters had.

The rule of this module: a client that reports is let in and bounded by the same rules as a client
that asks for resources, but its streams are counted separately. Its first message is answered with
what it should report: the clusters that ``LoadReports`` names, or else all. A client that does not
support ``send_all_clusters`` is given the names of all the clusters that it should have. With each
report the server checks whether these have changed, and if so asks anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc

from control_plane.clock import Clock
from control_plane.errors import (
    InvalidArgument,
    PeerLimitExceeded,
    PeerProtocolError,
    Unavailable,
)
from control_plane.names import shown
from control_plane.nodes import Credential, Nodes
from control_plane.server.access.admission import Admission, Context, Everybody, admitted
from control_plane.server.access.arrivals import Arrivals
from control_plane.server.access.certificate_end import while_valid
from control_plane.server.access.wrapping import leaving_nothing
from control_plane.server.limits import ServerLimits
from control_plane.server.lrs.wire_load_reports import encode_load_question, parse_load_report
from control_plane.server.status import end_call
from control_plane.xds.messages import Node, SotwRequest
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import CLUSTER, ResourceTypes
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream

SHORTEST_INTERVAL = 0.001
"""The shortest interval in seconds. Clients count in milliseconds, and with less would report
without a pause."""

LONGEST_INTERVAL = 315_576_000_000.0
"""How many seconds a ``google.protobuf.Duration`` may have."""

SERVICE = "envoy.service.load_stats.v3.LoadReportingService"
METHOD = "StreamLoadStats"

_SENDS_ALL_CLUSTERS = "envoy.lrs.supports_send_all_clusters"

ClusterStats = Any
"""An ``envoy.config.endpoint.v3.ClusterStats``; it is made at run time, without stubs."""


@dataclass(frozen=True, slots=True)
class LoadReports:
    """What clients are to report, and who is told of their reports.

    Attributes:
        told: called with the node id of a client and the ``ClusterStats`` of one report. It must
            return at once; an exception that it raises ends that client's stream.
        interval: seconds from one report to the next, at least a millisecond.
        clusters: the clusters to report; empty for all.
        by_endpoint: whether each endpoint is reported by itself too.
    """

    told: Callable[[str, Sequence[ClusterStats]], None]
    interval: float = 10.0
    clusters: tuple[str, ...] = ()
    by_endpoint: bool = False

    def __post_init__(self) -> None:
        """Refuse an interval that no client could follow.

        Raises:
            InvalidArgument: the interval is too short, or too long for the message.
        """
        if not SHORTEST_INTERVAL <= self.interval <= LONGEST_INTERVAL:
            raise InvalidArgument(
                f"the interval of load reports is {self.interval} s, "
                f"not {SHORTEST_INTERVAL} to {LONGEST_INTERVAL:.0f} s"
            )


@dataclass(frozen=True, slots=True)
class Question:
    """What a client is asked to report: some clusters, or all."""

    clusters: tuple[str, ...]
    all_clusters: bool


class LoadReportingService:
    """``StreamLoadStats``, for every client that discovery lets in."""

    def __init__(
        self,
        reports: LoadReports,
        nodes: Nodes,
        *,
        clock: Clock,
        admission: Admission | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        """Ask for these reports.

        Args:
            reports: what is asked for, and who is told.
            nodes: the nodes that have the clusters.
            clock: the time for limits, and for when certificates expire.
            admission: who may report; everybody by default.
            limits: how much clients may do; streams of reports are counted separately.
        """
        self._reports = reports
        self._nodes = nodes
        self._admission = admission or Everybody()
        self._limits = limits or ServerLimits()
        self._clock = clock
        self._arrivals = Arrivals(self._limits, clock)
        self._open: dict[asyncio.Task[None], None] = {}
        self._by_node: Counter[str] = Counter()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the method with a server that was not started yet."""

        async def serve(_: AsyncIterator[bytes], context: Context) -> None:
            await self._serve(context)

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            leaving_nothing(serve)
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})]
        )

    def shut_down(self) -> None:
        """End every stream with UNAVAILABLE."""
        for task in self._open:
            task.cancel()

    async def _serve(self, context: Context) -> None:
        stream = Stream(ResourceTypes.of(()), limits=self._limits.stream)
        task = asyncio.create_task(self._read(stream, context))
        self._open[task] = None
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            del self._open[task]
        error = Unavailable("the server is shutting down") if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            await end_call(context, f"/{SERVICE}/{METHOD}", error)

    async def _read(self, stream: Stream, context: Context) -> None:
        """Take reports until the client is gone or done."""
        try:
            raw = await self._first(context)
            if raw is grpc.aio.EOF:
                return
            said, stats = parse_load_report(raw)
            node = _identified(stream, said)
            with self._admitted(node, context) as credential:
                async with while_valid(credential, self._clock):
                    await self._take(stream, node, stats, context)
        except grpc.aio.BaseError:
            return

    async def _take(
        self, stream: Stream, node: Node, stats: Sequence[ClusterStats], context: Context
    ) -> None:
        """Take the reports of a client that was let in, starting with the first, already read."""
        asked: Question | None = None
        while True:
            if stats:
                self._reports.told(node.id, stats)
            question = self._question(node)
            if question != asked:
                await context.write(self._encoded(question))
                asked = question
            raw = await context.read()
            if raw is grpc.aio.EOF:
                return
            said, stats = parse_load_report(raw)
            _identified(stream, said)

    async def _first(self, context: Context) -> Any:  # noqa: ANN401 - bytes, or no more
        seconds = self._limits.first_request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await context.read()
        except TimeoutError:
            raise PeerProtocolError(
                f"no load report within {seconds:g} seconds of opening the stream"
            ) from None

    @contextmanager
    def _admitted(self, node: Node, context: Context) -> Iterator[Credential | None]:
        """Let a client in as long as the block lasts; yield its credential, if one was required."""
        credential = admitted(self._admission, node, context)
        most = self._limits.streams_per_node
        if self._by_node[node.id] >= most:
            raise PeerLimitExceeded(f"more than {most} streams of one node: {shown(node.id)}")
        self._arrivals.let_in(node.id)
        self._by_node[node.id] += 1
        try:
            yield credential
        finally:
            self._by_node[node.id] -= 1
            if not self._by_node[node.id]:
                del self._by_node[node.id]

    def _question(self, node: Node) -> Question:
        """Return what a client is to report as things are now."""
        if self._reports.clusters:
            return Question(self._reports.clusters, all_clusters=False)
        if _SENDS_ALL_CLUSTERS in node.client_features:
            return Question((), all_clusters=True)
        snapshot = self._nodes.sendable(node.id) or Snapshot()
        clusters = snapshot.of_type(CLUSTER)
        names = clusters.resources.keys() | clusters.variants.keys()
        return Question(tuple(sorted(names)), all_clusters=False)

    def _encoded(self, question: Question) -> bytes:
        return encode_load_question(
            question.clusters,
            all_clusters=question.all_clusters,
            interval=self._reports.interval,
            by_endpoint=self._reports.by_endpoint,
        )


def _identified(stream: Stream, said: Node | None) -> Node:
    """Return the node of a client, which names it by the same rules as in a request for resources.

    Raises:
        PeerProtocolError: the client does not name its node at first, or names another one later.
    """
    connected = stream.identify(SotwRequest(TypeUrl(""), node=said))
    return connected.node if connected is not None else cast("Node", stream.node)
