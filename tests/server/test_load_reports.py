"""Load reports: what clients are asked for, what they tell, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from structlog.testing import capture_logs

from control_plane.clock import SystemClock
from control_plane.errors import InvalidArgument, PermissionDenied
from control_plane.nodes import Credential, Nodes
from control_plane.server.access.admission import Context
from control_plane.server.access.certificate_end import MARGIN_SECONDS
from control_plane.server.library import ResourceServer, resource_of
from control_plane.server.limits import ServerLimits
from control_plane.server.lrs.load_reports import LoadReportingService, LoadReports
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Node
from control_plane.xds.resource_type import CLUSTER
from tests.envoy.apps import http1, plain, tcp_app
from tests.envoy.harness import start_envoy, unique_address
from tests.server.documents import documented
from tests.server.envoys import NODE, accepted, bootstrap, listener
from tests.waiting import eventually
from tests.xds_client import SotwClient, plaintext_channel

METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
SENDS_ALL = "envoy.lrs.supports_send_all_clusters"
REQUESTS = 23


class LoadClient(SotwClient):
    """A client that reports what it is told to."""

    request_type = lrs_pb2.LoadStatsRequest
    response_type = lrs_pb2.LoadStatsResponse

    async def report(self, cluster: str, requests: int = 0) -> None:
        """Say how many requests a cluster had."""
        localities = [{"total_issued_requests": requests}]
        await self.send(
            cluster_stats=[{"cluster_name": cluster, "upstream_locality_stats": localities}]
        )


class Told:
    """Is told of reports, and remembers them."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.reports: list[tuple[str, Sequence[Any]]] = []

    def __call__(self, node_id: str, stats: Sequence[Any]) -> None:
        """Take a report."""
        self.reports.append((node_id, stats))

    def requests(self, cluster: str) -> int:
        """Return how many requests a cluster had, by all that was told."""
        return sum(
            locality.total_issued_requests
            for _, stats in self.reports
            for each in stats
            if each.cluster_name == cluster
            for locality in each.upstream_locality_stats
        )


@asynccontextmanager
async def reporting(
    reports: LoadReports,
    **parts: Any,  # noqa: ANN401 - any other part of the server
) -> AsyncIterator[tuple[ResourceServer, grpc.aio.Channel]]:
    """Start a server that asks for reports, and connect to it."""
    async with (
        ResourceServer(load_reports=reports, **parts) as server,
        plaintext_channel(server.address) as channel,
    ):
        yield server, channel


def client(channel: grpc.aio.Channel, node_id: str = "n") -> LoadClient:
    """Return a client of load reports."""
    return LoadClient(channel, node_id, METHOD)


async def test_a_client_that_can_is_asked_for_all_clusters() -> None:
    """L1, N4: once, with the interval; what it tells is passed on with who it is."""
    told = Told()
    async with (
        reporting(LoadReports(told, interval=1.5, by_endpoint=True)) as (_, channel),
        client(channel) as it,
    ):
        await it.send(node={"id": "n", "client_features": [SENDS_ALL]})
        question = await it.receive()
        await it.report("a", 3)
        await it.report("a", 4)
        await eventually(lambda: told.requests("a") == 7, "both reports were told")

        assert question == lrs_pb2.LoadStatsResponse(
            send_all_clusters=True,
            load_reporting_interval={"seconds": 1, "nanos": 500_000_000},
            report_endpoint_granularity=True,
        )
        assert {node_id for node_id, _ in told.reports} == {"n"}
        assert await it.is_silent()


async def test_a_client_that_cannot_is_asked_for_each_of_its_clusters() -> None:
    """L1, N4: those that its node has, by name; after a change it is asked anew."""
    async with reporting(LoadReports(Told())) as (server, channel), client(channel) as it:
        server.set_resources("n", [cluster_pb2.Cluster(name=name) for name in "ba"])
        await it.send()
        first = await it.receive()
        await it.report("a")
        assert await it.is_silent()
        server.set_resources("n", [cluster_pb2.Cluster(name="c")])
        await it.report("a")
        second = await it.receive()

    assert (list(first.clusters), first.send_all_clusters) == (["a", "b"], False)
    assert first.load_reporting_interval.seconds == 10
    assert not first.report_endpoint_granularity
    assert list(second.clusters) == ["c"]


async def test_a_client_is_asked_for_clusters_that_have_variants() -> None:
    """L1, E3: whichever of them it has, their name is the same."""
    rule = {"constraint": {"key": "env", "value": "prod"}}
    of_prod = ParseDict(rule, discovery_pb2.DynamicParameterConstraints())
    async with reporting(LoadReports(Told())) as (server, channel), client(channel) as it:
        variant = resource_of(cluster_pb2.Cluster(name="b"), constraints=of_prod)
        server.set_resources("n", [variant, cluster_pb2.Cluster(name="a")])
        await it.send()

        assert list((await it.receive()).clusters) == ["a", "b"]


async def test_a_client_of_a_node_that_nobody_planned_is_asked_too() -> None:
    """L1: for nothing yet; it waits for that word."""
    async with reporting(LoadReports(Told())) as (_, channel), client(channel) as it:
        await it.send()

        assert list((await it.receive()).clusters) == []


async def test_some_clusters_may_be_asked_for() -> None:
    """L1: then nobody is asked for others, whatever it can do."""
    async with (
        reporting(LoadReports(Told(), clusters=("a",))) as (_, channel),
        client(channel) as it,
    ):
        await it.send(node={"id": "n", "client_features": [SENDS_ALL]})
        question = await it.receive()

    assert (list(question.clusters), question.send_all_clusters) == (["a"], False)


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([b"\xff"], "1 bytes that are no envoy.service.load_stats.v3.LoadStatsRequest"),
        ([{}], "the first request of a stream must carry node.id"),
        ([{"node": {"id": "n"}, "cluster_stats": [{}]}], "cluster_stats[0] has no cluster_name"),
        (
            [{"node": {"id": "n"}}, {"node": {"id": "m"}}],
            "node.id changed on the stream: 'n' became 'm'",
        ),
    ],
)
async def test_bad_input_ends_the_stream_with_one_sentence(
    requests: list[dict[str, Any] | bytes], reason: str
) -> None:
    """L1, N2: nothing of it is told, and the server goes on."""
    told = Told()
    async with reporting(LoadReports(told)) as (_, channel):
        async with client(channel) as it:
            for each in requests:
                raw = each if isinstance(each, bytes) else _serialised(each)
                await it.send_raw(raw)

            assert await it.status() == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        async with client(channel) as other:
            await other.send()
            await other.receive()

    assert told.reports == []


def _serialised(fields: dict[str, Any]) -> bytes:
    raw: bytes = lrs_pb2.LoadStatsRequest(**fields).SerializeToString()
    return raw


async def test_a_client_that_says_nothing_is_given_up() -> None:
    """K1: as one that opens a stream for resources."""
    limits = ServerLimits(first_request_seconds=0.1)
    async with (
        reporting(LoadReports(Told()), limits=limits) as (_, channel),
        client(channel) as it,
    ):
        assert await it.status() == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "no load report within 0.1 seconds of opening the stream",
        )


async def test_a_client_that_has_nothing_to_say_may_go() -> None:
    """L1: who ends its stream before it said who it is did nothing wrong."""
    async with reporting(LoadReports(Told())) as (_, channel), client(channel) as it:
        await it.done_writing()

        assert await it.status() == (grpc.StatusCode.OK, "")


async def test_who_is_not_admitted_reports_nothing() -> None:
    """L1: who may ask for no resources may not report either, and nothing of it is looked at."""

    class Nobody:
        def admit(self, node: Node, context: Context) -> None:
            raise PermissionDenied(f"{node.id} may not come in")

    told = Told()
    async with (
        reporting(LoadReports(told), admission=Nobody()) as (_, channel),
        client(channel) as it,
    ):
        await it.report("a", 1)

        assert await it.status() == (
            grpc.StatusCode.PERMISSION_DENIED,
            "n may not come in",
        )
    assert told.reports == []


class UntilSoon:
    """Lets clients in by a certificate that ends soon."""

    def admit(self, node: Node, context: Context) -> Credential:
        """Say when: what is held back for another one, and a tenth of a second."""
        del node, context
        return Credential(1, datetime.now(UTC) + timedelta(seconds=MARGIN_SECONDS + 0.1))


async def test_streams_end_with_the_certificate_of_their_client() -> None:
    """It could not open one any more, so it reports no more either, nor is told of resources."""
    told = Told()
    async with (
        reporting(LoadReports(told), admission=UntilSoon()) as (server, channel),
        client(channel) as reports,
        SotwClient(channel, "n") as resources,
    ):
        server.set_resources("n", [cluster_pb2.Cluster(name="c")])
        await resources.subscribe(CLUSTER)
        await reports.report("c", 1)
        ended = (grpc.StatusCode.UNAVAILABLE, "the client certificate ends: come back")

        assert [await each.status() for each in (reports, resources)] == [ended] * 2
        assert told.requests("c") == 1


async def test_a_timeout_of_whoever_takes_reports_is_no_end_of_a_certificate() -> None:
    """It is a defect of theirs, as whatever they raise, and the log has it."""

    def take(_node_id: str, _stats: Sequence[Any]) -> None:
        raise TimeoutError

    with capture_logs() as logs:
        async with (
            reporting(LoadReports(take), admission=UntilSoon()) as (_, channel),
            client(channel) as it,
        ):
            await it.report("c", 1)

            assert (await it.status())[0] is grpc.StatusCode.INTERNAL
    assert [each["log_level"] for each in logs] == ["error"]


async def test_streams_of_a_node_are_bounded() -> None:
    """K1: one that is over counts no more."""
    limits = ServerLimits(streams_per_node=1)
    async with reporting(LoadReports(Told()), limits=limits) as (_, channel):
        async with client(channel) as one, client(channel) as two:
            await one.send()
            await one.receive()
            await two.send()
            assert await two.status() == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "more than 1 streams of one node: 'n'",
            )
            await one.done_writing()
            assert (await one.status())[0] is grpc.StatusCode.OK
        async with client(channel) as three:
            await three.send()
            await three.receive()


async def test_streams_that_go_on_are_counted_when_another_ends() -> None:
    """K1: of two streams one is left, and room for one."""
    limits = ServerLimits(streams_per_node=2)
    async with (
        reporting(LoadReports(Told()), limits=limits) as (_, channel),
        client(channel) as one,
        client(channel) as two,
        client(channel) as three,
        client(channel) as four,
    ):
        for each in (one, two):
            await each.send()
            await each.receive()
        await two.done_writing()
        await two.status()
        await three.send()
        await three.receive()
        await four.send()

        assert (await four.status())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_a_client_says_of_itself_is_bounded() -> None:
    """K1: by the limits of a stream for resources."""
    limits = ServerLimits(stream=StreamLimits(node_id_octets=3))
    async with reporting(LoadReports(Told()), limits=limits) as (_, channel):
        async with client(channel, "long") as it:
            await it.send()
            assert (await it.status())[1] == "node.id longer than 3 octets: 'long'"
        async with client(channel, "not") as it:
            await it.send()
            await it.receive()


async def test_new_streams_of_a_node_are_bounded() -> None:
    """K1: who comes too often is told to come later."""
    limits = ServerLimits(new_streams_per_node_and_minute=1)
    async with (
        reporting(LoadReports(Told()), limits=limits) as (_, channel),
        client(channel) as one,
        client(channel) as two,
    ):
        await one.send()
        await one.receive()
        await two.send()

        assert (await two.status())[0] is grpc.StatusCode.UNAVAILABLE


async def test_who_fails_to_take_a_report_ends_that_stream_alone() -> None:
    """A defect is logged and not told to the client."""

    def fail(node_id: str, _: Sequence[Any]) -> None:
        if node_id == "bad":
            raise RuntimeError("a defect")

    with capture_logs() as lines:
        async with (
            reporting(LoadReports(fail)) as (_, channel),
            client(channel, "bad") as bad,
            client(channel) as good,
        ):
            await good.send()
            await good.receive()
            await bad.report("a")
            assert await bad.status() == (grpc.StatusCode.INTERNAL, "internal error")
            await good.report("a")
            assert await good.is_silent()
            await good.done_writing()
            assert (await good.status())[0] is grpc.StatusCode.OK

    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["method"]) == ("call.failed", METHOD)


async def test_leaving_the_server_ends_reports() -> None:
    """K2: with UNAVAILABLE, so that the client looks for another server."""
    server = ResourceServer(load_reports=LoadReports(Told()))
    async with server, plaintext_channel(server.address) as channel, client(channel) as it:
        await it.send()
        await it.receive()
        await server.__aexit__(None, None, None)

        assert await it.status() == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is shutting down",
        )


@pytest.mark.parametrize("is_cut", [False, True], ids=["ended", "cut"])
async def test_a_stream_that_is_over_leaves_nothing(*, is_cut: bool) -> None:
    """K1: neither one that its client ended nor one that it cut."""
    service = LoadReportingService(LoadReports(Told()), Nodes(), clock=SystemClock())
    server = grpc.aio.server()
    service.add_to(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with plaintext_channel(address) as channel:
        async with client(channel) as it:
            await it.send()
            await it.receive()
            assert (len(service._open), service._by_node) == (1, {"n": 1})
            if not is_cut:
                await it.done_writing()
                assert (await it.status())[0] is grpc.StatusCode.OK
        await eventually(lambda: not service._open and not service._by_node, "nothing is left")
    await server.stop(None)


async def test_the_documents_reports_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """L1: the document's example says who had how many requests to which cluster."""
    server = documented("LoadReports(")["SERVER"]
    async with server, plaintext_channel(server.address) as channel, client(channel) as it:
        await it.report("web", 3)
        assert (await it.receive()).load_reporting_interval.seconds == 5

    assert capsys.readouterr().out == "n: 3 requests to web\n"


async def test_a_server_that_wants_no_reports_has_no_such_service() -> None:
    """L1: they are for who asks for them."""
    async with (
        ResourceServer() as server,
        plaintext_channel(server.address) as channel,
        client(channel) as it,
    ):
        assert (await it.status())[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("interval", [0.001, 315_576_000_000.0])
async def test_any_interval_that_a_message_can_say_may_be_asked_for(interval: float) -> None:
    """L1: from a millisecond to the longest ``Duration``."""
    async with (
        reporting(LoadReports(Told(), interval=interval)) as (_, channel),
        client(channel) as it,
    ):
        await it.send()
        asked = (await it.receive()).load_reporting_interval

    assert asked.seconds + asked.nanos / 1e9 == interval


@pytest.mark.parametrize(
    "interval", [0.0, -1.0, 1e-4, 315_576_000_001.0, float("inf"), float("nan")]
)
def test_an_interval_that_is_no_time_is_refused(interval: float) -> None:
    """L1: a client could not keep it."""
    with pytest.raises(
        InvalidArgument,
        match=r"^the interval of load reports is \S+ s, not 0\.001 to 315576000000 s$",
    ):
        LoadReports(Told(), interval=interval)


async def get(address: str, port: int) -> bytes:
    """Return the status line of the answer to a request."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return (await reader.read()).split(b"\r\n")[0]
    finally:
        writer.close()


async def test_an_envoy_reports_as_many_requests_as_were_made() -> None:
    """L1: of a cluster that came over ADS; it can report all clusters, and says so."""
    told, address = Told(), unique_address()
    routes = {
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}],
                }
            ]
        }
    }

    def web(port: int) -> Message:
        at = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
        endpoints = [{"lb_endpoints": [{"endpoint": at}]}]
        assignment = {"cluster_name": "web", "endpoints": endpoints}
        fields = {"name": "web", "type": "STATIC", "load_assignment": assignment}
        message: Message = ParseDict(fields, cluster_pb2.Cluster())
        return message

    def says(server: ResourceServer, admin: Any) -> str:  # noqa: ANN401 - a path
        fields = json.loads(bootstrap(server.address, "DELTA_GRPC", admin))
        to = {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        }
        return json.dumps(fields | {"cluster_manager": {"load_stats_config": to}})

    reports = LoadReports(told, interval=0.1)
    async with ResourceServer(load_reports=reports) as server, tcp_app(http1(plain(b"hi"))) as app:
        server.set_resources(NODE, [web(app.port), listener("web", routes, at=(address, 8080))])
        async with start_envoy(lambda admin: says(server, admin)) as envoy:
            await envoy.wait_live()
            await accepted(server)

            def is_reported() -> bool:
                return any(
                    each.cluster_name == "web" for _, stats in told.reports for each in stats
                )

            # What a cluster had before its first report is not reported.
            await eventually(is_reported, "the cluster is reported")
            answers = [await get(address, 8080) for _ in range(REQUESTS)]
            await eventually(lambda: told.requests("web") >= REQUESTS, "all requests are reported")
            before = len(told.reports)
            await eventually(lambda: len(told.reports) > before + 2, "reports go on")

    assert answers == [b"HTTP/1.1 200 OK"] * REQUESTS
    assert told.requests("web") == REQUESTS
    assert {node_id for node_id, _ in told.reports} == {NODE}
