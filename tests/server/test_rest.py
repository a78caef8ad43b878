"""REST-JSON over real connections: what is answered, what is refused, and what it may cost."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import Parse
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.ca import read_certificate
from control_plane.errors import (
    ConfigurationError,
    FailedPrecondition,
    InvalidArgument,
    PeerLimitExceeded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from control_plane.server.access.admission import Admission, PeerContext
from control_plane.server.discovery.methods import SERVICES
from control_plane.server.library import ResourceServer
from control_plane.server.limits import ServerLimits
from control_plane.server.rest import connection as http_connection
from control_plane.server.rest import services as rest
from control_plane.xds.events import Nacked
from control_plane.xds.messages import ErrorDetail, Node
from control_plane.xds.resource import Denied, Resource
from control_plane.xds.resource_type import CLUSTER, ENDPOINT
from tests.envoy.harness import until
from tests.server.documents import serving
from tests.server.pairs import SPIFFE, Pair
from tests.server.test_faults import Doorkeeper
from tests.server.test_tls import ByCertificate, channel_to
from tests.server.watching import Watcher
from tests.unit.server_security.still_clock import StillClock
from tests.xds_client import DeltaClient, plaintext_channel

CLUSTERS = "/v3/discovery:clusters"
ENDPOINTS = "/v3/discovery:endpoints"
WEB = cluster_pb2.Cluster(name="web", type="STATIC")
PATIENCE = 10.0
EMPTY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def response(self) -> Any:  # noqa: ANN401 - made at run time, without stubs
        """The DiscoveryResponse that it is."""
        assert (self.status, self.headers["content-type"]) == (200, "application/json")
        return Parse(self.body, discovery_pb2.DiscoveryResponse())

    @property
    def sentence(self) -> tuple[int, str]:
        """Status and text of a refusal."""
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        return self.status, self.body.decode().removesuffix("\n")


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, method: str) -> Answered:
    connection.request(method, path, body)
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answered(answer.status, headers, answer.read())


@asynccontextmanager
async def client(
    address: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[http.client.HTTPConnection]:
    """Have a connection to a server."""
    host, _, port = address.rpartition(":")
    if tls is None:
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    else:
        connection = http.client.HTTPSConnection(
            "localhost", int(port), timeout=PATIENCE, context=tls
        )
    try:
        yield connection
    finally:
        connection.close()


async def post(
    connection: http.client.HTTPConnection,
    path: str = CLUSTERS,
    *,
    raw: bytes | None = None,
    method: str = "POST",
    **fields: object,
) -> Answered:
    """Poll with these fields, as node-1 if they do not say who asks; or with these bytes."""
    body = json.dumps({"node": {"id": "node-1"}, **fields}).encode() if raw is None else raw
    return await asyncio.to_thread(_post, connection, path, body, method)


@asynccontextmanager
async def polled(
    *, admission: Admission | None = None, limits: ServerLimits | None = None
) -> AsyncIterator[tuple[ResourceServer, http.client.HTTPConnection]]:
    """Run a server, and have a connection to it."""
    async with (
        ResourceServer(admission=admission, limits=limits) as server,
        server.rest() as address,
        client(address) as connection,
    ):
        yield server, connection


async def say(address: str, request: bytes) -> bytes:
    """Send some bytes, and return all that comes back until the server closes or resets."""
    host, _, port = address.rpartition(":")
    answer = b""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await (
            asyncio.open_unix_connection(port)
            if host == "unix"
            else asyncio.open_connection(host, int(port))
        )
        writer.write(request)
        with suppress(ConnectionResetError):
            answer = await reader.read()
        writer.close()
    return answer


async def test_the_documents_example_is_polled(capsys: pytest.CaptureFixture[str]) -> None:
    """V5: the code of the document, run as it is, answers what its curl asks."""
    async with (
        serving("server.rest(", "polled at ", capsys) as address,
        client(address) as connection,
    ):
        answer = (await post(connection)).response
    (web,) = answer.resources
    assert cluster_pb2.Cluster.FromString(web.value) == WEB


def test_the_paths_are_those_of_the_definitions() -> None:
    """V5: what is polled is every service of one type, and no other."""
    assert rest.paths().keys() == {
        f"/v3/discovery:{name}"
        for name in (
            *("clusters", "endpoints", "listeners", "routes", "scoped-routes", "secrets"),
            *("extension_configs", "runtime"),
        )
    }
    assert set(rest.paths().values()) == {each.only for each in SERVICES if each.polled}


async def test_a_poll_is_answered_and_the_next_has_nothing_new() -> None:
    """V2, V5: the version that the client has is answered with 304, and a change with all.

    304 says nothing of a body, whose length would have to be that of 200 (RFC 9110, section 8.6).
    """
    async with polled() as (server, connection):
        server.set_resources("node-1", [WEB])
        first = (await post(connection)).response
        second = await post(connection, version_info=first.version_info)
        server.set_resources("node-1", [WEB, cluster_pb2.Cluster(name="db", type="STATIC")])
        third = (await post(connection, versionInfo=first.version_info)).response

    assert first.type_url == CLUSTER
    assert first.control_plane.identifier == "c2c-control-plane"
    assert [cluster_pb2.Cluster.FromString(each.value) for each in first.resources] == [WEB]
    assert (second.status, second.body) == (304, b"")
    assert second.headers == {"cache-control": "no-store"}
    assert len(third.resources) == 2


async def test_nothing_is_said_of_what_is_not_there() -> None:
    """W8, R4: for a node that nobody knows, and for missing endpoints, there is nothing new."""
    async with polled() as (server, connection):
        nobody = await post(connection)
        server.set_resources("node-1", [])
        missing = await post(connection, ENDPOINTS, resource_names=["web"])
        none = await post(connection)
        server.set_resources("node-1", [endpoint_pb2.ClusterLoadAssignment(cluster_name="web")])
        there = await post(connection, ENDPOINTS, resource_names=["web"])

    assert (nobody.status, missing.status) == (304, 304)
    assert not none.response.resources
    assert [each.type_url for each in there.response.resources] == [ENDPOINT]


async def test_a_poll_does_not_wait() -> None:
    """V5: who has all that there is is told so at once, without a moment of the clock."""
    async with (
        ResourceServer(clock=StillClock()) as server,
        server.rest() as address,
        client(address) as connection,
    ):
        server.set_resources("node-1", [])
        answer = await post(connection, ENDPOINTS, resource_names=["web"])

    assert answer.status == 304


async def test_who_takes_errors_is_told_why_a_name_is_not_there() -> None:
    """V5, E1, E2: in JSON as in bytes; and who has that answer is told that it still holds."""
    node = {"id": "node-1", "client_features": ["supports-resource-error-unwrapping"]}
    async with polled() as (server, connection):
        server.set_resources("node-1", [WEB, Denied(CLUSTER, "db", "not for the front")])
        asked: dict[str, Any] = {"node": node, "resource_names": ["web", "db", "cache"]}
        told = (await post(connection, **asked)).response
        again = await post(connection, **asked, version_info=told.version_info)

    assert again.status == 304
    assert len(told.resources) == 1
    errors = {each.resource_name.name: each.error_detail for each in told.resource_errors}
    assert {name: each.code for name, each in errors.items()} == {"cache": 5, "db": 7}
    assert errors["db"].message == "not for the front"


async def test_a_refusal_is_told_to_observers() -> None:
    """A4, A7: error_detail and the nonce of the content are a NACK, and get nothing again."""
    async with polled() as (server, connection):
        watcher = Watcher()
        server.observe(watcher)
        server.set_resources("node-1", [WEB])
        nonce = (await post(connection)).response.nonce
        error = {"code": 13, "message": "no such thing"}
        again = await post(connection, response_nonce=nonce, error_detail=error)
        (delivered,) = [each for each in watcher.events if isinstance(each, Nacked)]

    assert again.status == 304
    assert (delivered.nonce, delivered.error) == (nonce, ErrorDetail(13, "no such thing"))
    assert [*delivered.versions] == ["web"]


async def test_one_connection_carries_many_polls() -> None:
    """A client that polls every second shakes hands once."""
    async with polled() as (server, connection):
        server.set_resources("node-1", [WEB])
        await post(connection)
        socket = connection.sock
        statuses = [(await post(connection, path)).status for path in (CLUSTERS, "/", ENDPOINTS)]

        assert connection.sock is socket
        assert statuses == [200, 404, 304]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("who?"), 401),
        (PermissionDenied("not you"), 403),
        (PeerLimitExceeded("too many"), 429),
        (Unavailable("later"), 503),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_admission_is_that_of_a_stream(error: Exception, status: int) -> None:
    """V5: who is not let in is told why, with the status that HTTP has for it."""
    async with polled(admission=Doorkeeper("node-1", error)) as (server, connection):
        server.set_resources("*", [WEB])
        refused = await post(connection)
        other = await post(connection, node={"id": "node-2"})

    assert refused.sentence == (status, str(error))
    assert other.status == 200


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"raw": b"{"}, "the body is no JSON: Expecting property name enclosed in double quotes"),
        ({"raw": b"{}"}, "the first request of a stream must carry node.id"),
        ({"type_url": ENDPOINT}, f"this service serves {CLUSTER} only, not '{ENDPOINT}'"),
    ],
    ids=["no JSON", "no node", "another type"],
)
async def test_bad_request_has_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    """V4, V5: 400, and what is wrong; the connection goes on, and no defect of ours is logged."""
    async with polled() as (server, connection):
        server.set_resources("node-1", [WEB])
        with capture_logs() as lines:
            status, text = (await post(connection, **fields)).sentence

        assert status == 400
        assert text.startswith(sentence)
        assert [each for each in lines if each["log_level"] == "error"] == []
        assert (await post(connection)).status == 200


async def test_a_path_that_is_none_says_which_are() -> None:
    """V5: there is no aggregated service, and nothing else to be found."""
    async with polled() as (_, connection):
        status, text = (await post(connection, "/v3/discovery:ads")).sentence

    assert status == 404
    assert text.startswith("there is nothing but /v3/discovery:clusters, ")


@pytest.mark.parametrize("target", [f"http://x{CLUSTERS}", f"HTTPS://x:1{CLUSTERS}?a=b"])
async def test_the_absolute_form_means_its_path(target: str) -> None:
    """RFC 9112, section 3.2.2: a server MUST accept what clients send to proxies."""
    async with polled() as (server, connection):
        server.set_resources("node-1", [WEB])
        answer = await post(connection, target)

    assert answer.status == 200


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (b"GET /v3/discovery:clusters HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"POST is the only"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"POST is the only"),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"POST is the only"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, b"illegal request line"),
        (b"POST / HTTP/1.1\r\n\r\n", 400, b"Missing mandatory Host: header"),
        (b"POST / HTTP/1.1\r\nHost: " + b"x" * 20_000, 431, b"Receive buffer too long"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, 413, b"a body"),
    ],
    ids=["GET", "the server", "a tunnel", "TLS", "no host", "long headers", "a long body"],
)
async def test_anything_else_is_hung_up_on(request_: bytes, status: int, sentence: bytes) -> None:
    """RFC 9112: with the status that says why, a sentence, and the end of the connection."""
    limits = ServerLimits(request_octets=100)
    async with ResourceServer(limits=limits) as server, server.rest() as address:
        answer = await say(address, request_)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert (b"\r\nAllow: POST" in head) == (status == 405)
    assert body.startswith(sentence)


async def test_a_body_may_be_as_long_as_the_limit() -> None:
    """The limit is the most that is taken, and not the first that is not."""
    limits = ServerLimits(request_octets=100)
    async with ResourceServer(limits=limits) as server, server.rest() as address:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
        answer = await say(address, head + b"x" * 100)

    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_the_answer_to_head_has_no_body() -> None:
    """RFC 9110, section 9.3.2: it says what else GET would be told; and that is no exception."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with ResourceServer() as server, server.rest() as address:
        answer = await say(address, b"HEAD /v3/discovery:clusters HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nContent-Length: 24\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert complaints == []


async def test_who_asks_before_it_sends_is_told_to() -> None:
    """RFC 9110, section 10.1.1: a client that expects 100 sends its body after that."""
    async with ResourceServer() as server, server.rest() as address:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
        answer = await say(address, head + b"Connection: close\r\n\r\n{}")

    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 404 Not Found" in answer


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"],
)
async def test_who_is_slow_is_not_waited_for(begun: bytes) -> None:
    """Neither for the first octet nor for the last one."""
    limits = ServerLimits(first_request_seconds=0.05)
    async with ResourceServer(limits=limits) as server, server.rest() as address:
        assert await say(address, begun) == b""


async def test_who_is_slow_with_a_second_request_is_not_waited_for() -> None:
    """A connection may be idle for longer than a request, once begun, may take."""
    limits = ServerLimits(first_request_seconds=0.05)
    async with ResourceServer(limits=limits) as server, server.rest() as address:
        answer = await say(address, EMPTY + b"POST / HTTP/1.1\r\n")

    assert answer.count(b"HTTP/1.1 404 ") == 1


async def test_requests_that_come_together_are_all_answered() -> None:
    """RFC 9112, section 9.3.2: in their order; and that a client has no more is no exception."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    last = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with ResourceServer() as server, server.rest() as address:
        answer = await say(address, EMPTY * 2 + last)
        async with client(address) as connection:
            await post(connection)
        final = EMPTY.replace(b"Host: x", b"Host: x\r\nConnection: close")
        assert (await say(address, final)).startswith(b"HTTP/1.1 404 ")

    found = [line.split()[1] for line in answer.splitlines() if line.startswith(b"HTTP/1.1 ")]
    assert found == [b"404", b"404", b"405"]
    assert complaints == []


async def test_who_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    """Nor are its answers kept: a client that only asks is cut."""

    def ask_only() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(tmp_path / "s"))
            connection.sendall(EMPTY * 20_000)

    limits = ServerLimits(first_request_seconds=0.2)
    async with ResourceServer(limits=limits) as server, server.rest(f"unix:{tmp_path / 's'}"):
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await asyncio.to_thread(ask_only)


async def test_a_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has nothing more to say is closed after a while."""
    monkeypatch.setattr(http_connection, "IDLE_SECONDS", 0.05)
    async with ResourceServer() as server, server.rest() as address:
        answer = await say(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed at once, and there is room when another has gone."""
    monkeypatch.setattr(rest, "MOST_CONNECTIONS", 1)
    async with ResourceServer() as server, server.rest() as address:
        server.set_resources("node-1", [WEB])
        async with client(address) as first:
            assert (await post(first)).status == 200
            assert await say(address, b"") == b""

        async def is_let_in() -> bool:
            with suppress(OSError, http.client.HTTPException):
                async with client(address) as second:
                    return (await post(second)).status == 200
            return False

        await until(is_let_in, what="there is room")


async def test_limits_are_those_of_a_stream() -> None:
    """K1: a poll is one more stream that its node opens."""
    limits = ServerLimits(new_streams_per_node_and_minute=1)
    async with polled(limits=limits) as (server, connection):
        server.set_resources("node-1", [WEB])
        first, second = await post(connection), await post(connection)

    assert first.status == 200
    assert second.sentence[0] == 503
    assert second.sentence[1].startswith("more than 1 new streams of one node in a minute")


async def test_what_has_no_json_is_said_and_logged() -> None:
    """A resource of a type that nobody imported fails its own polls, and no others."""
    odd = Resource.of(CLUSTER, "odd", b"\xff")
    async with polled() as (server, connection):
        server.set_resources("node-1", [odd])
        with capture_logs() as lines:
            status, text = (await post(connection)).sentence
            missing = await post(connection, ENDPOINTS)

    assert status == 500
    assert text.startswith("resource 'odd' cannot be written as JSON: ")
    (line,) = [each for each in lines if each["event"] == log_events.CALL_FAILED]
    assert (line["method"], line["reason"]) == (CLUSTERS, text)
    assert missing.status == 304


class Failing:
    """An admission with a defect."""

    def admit(self, node: Node, context: PeerContext) -> None:
        """Fail."""
        raise RuntimeError(f"PRIVATE THINGS of {node.id}")


async def test_a_defect_tells_nothing() -> None:
    """What nobody raised on purpose is for the log, once."""
    async with polled(admission=Failing()) as (_, connection):
        with capture_logs() as lines:
            answer = await post(connection)

    assert answer.sentence == (500, "internal error")
    assert [each["event"] for each in lines] == [log_events.STREAM_FAILED]


class Remembering(ByCertificate):
    """An admission that keeps what it was told of the last client."""

    def __init__(self) -> None:
        """Have seen nobody."""
        self.context: PeerContext | None = None

    def admit(self, node: Node, context: PeerContext) -> None:
        """Keep it, and decide as ever."""
        self.context = context
        super().admit(node, context)


async def test_a_certificate_is_what_it_is_on_a_stream() -> None:
    """V5: an admission made for gRPC sees the same names and the same certificate."""
    pair, admission = Pair.make(), Remembering()
    async with (
        ResourceServer(admission=admission) as server,
        server.rest(tls=pair.server_context()) as address,
        client(address, pair.client_context()) as connection,
    ):
        server.set_resources("*", [WEB])
        own = await post(connection)
        foreign = await post(connection, node={"id": "node-2"})

    assert own.status == 200
    assert foreign.sentence == (403, "node.id is not that of the certificate")
    assert admission.context is not None
    assert [*(admission.context.peer_identities() or ())] == [b"localhost", SPIFFE.encode()]
    proven = admission.context.auth_context()
    (pem,) = proven["x509_pem_cert"]
    assert read_certificate(pem).serial == 1
    assert [*proven["x509_common_name"]] == [b"test"]
    assert admission.context.peer().startswith("ipv4:127.0.0.1:")


async def test_names_in_a_certificate_are_written_as_on_a_stream() -> None:
    """V5: an IPv6 address has its short form, and kinds that gRPC does not tell are left out."""
    pair, admission = (
        Pair.make(
            x509.IPAddress(ip_address("fe80::1")),
            x509.RFC822Name("a@example.org"),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.DirectoryName(x509.Name([])),
        ),
        Remembering(),
    )
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], pair.certificate, require_client_auth=True
    )
    async with (
        ResourceServer("localhost:0", credentials=credentials, admission=admission) as server,
        server.rest(tls=pair.server_context()) as address,
        client(address, pair.client_context()) as connection,
        channel_to(server, pair, pair) as channel,
        DeltaClient(channel, "node-1") as stream,
    ):
        server.set_resources("*", [WEB])
        await post(connection)
        assert admission.context is not None
        polled_as = [*(admission.context.peer_identities() or ())]
        await stream.subscribe(CLUSTER)
        await stream.receive()
        streams_as = [*(admission.context.peer_identities() or ())]

    assert polled_as == [b"localhost", SPIFFE.encode(), b"fe80::1", b"a@example.org"]
    assert [each for each in streams_as if each != b"other types of SAN"] == polled_as


class Looking:
    """An admission that looks at all that is known of a client, and lets everybody in."""

    def __init__(self) -> None:
        """Have seen nobody."""
        self.peer = ""
        self.identities: list[bytes] | None = None
        self.proven: dict[str, list[bytes]] = {}

    def admit(self, _: Node, context: PeerContext) -> None:
        """Look."""
        self.peer = context.peer()
        identities = context.peer_identities()
        self.identities = None if identities is None else [*identities]
        self.proven = {key: [*values] for key, values in context.auth_context().items()}


async def test_who_has_a_common_name_only_has_it_as_on_a_stream() -> None:
    """V5: what gRPC tells of a certificate without other names is told here in the same words."""
    pair, own = Pair.make(), Pair.of_subject(ORGANIZATION_NAME="Example", COMMON_NAME="node-1")
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], own.certificate, require_client_auth=True
    )
    polled, streams = Looking(), Looking()
    async with (
        ResourceServer("localhost:0", credentials=credentials, admission=streams) as server,
        channel_to(server, pair, own) as channel,
        DeltaClient(channel, "node-1") as stream,
        ResourceServer(admission=polled) as other,
        other.rest(tls=pair.server_context(own)) as address,
        client(address, own.client_context(pair)) as connection,
    ):
        server.set_resources("*", [WEB])
        await post(connection)
        await stream.subscribe(CLUSTER)
        await stream.receive()

    assert polled.identities == streams.identities == [b"node-1"]
    assert polled.proven.keys() == {"transport_security_type", "x509_common_name", "x509_pem_cert"}
    assert polled.proven.items() <= streams.proven.items()


@pytest.mark.parametrize("at", ["127.0.0.1:0", "[::1]:0", "unix:{}"], ids=["IPv4", "IPv6", "Unix"])
async def test_where_a_client_is_is_written_as_on_a_stream(at: str, tmp_path: Path) -> None:
    """V5: by address and port; in plaintext nothing is proven."""
    polled, streams = Looking(), Looking()
    async with (
        ResourceServer(at.format(tmp_path / "grpc"), admission=streams) as server,
        plaintext_channel(server.address) as channel,
        DeltaClient(channel, "node-1") as stream,
        ResourceServer(admission=polled) as other,
        other.rest(at.format(tmp_path / "rest")) as address,
    ):
        server.set_resources("*", [WEB])
        await stream.subscribe(CLUSTER)
        await stream.receive()
        own = await asyncio.to_thread(poll_by, address)

    if own is None:
        assert polled.peer == streams.peer == "unix:"
    else:
        assert polled.peer.rpartition(":") == (streams.peer.rpartition(":")[0], ":", str(own))
    assert (polled.identities, polled.proven) == (None, {})


def poll_by(address: str) -> int | None:
    """Poll as node-1, and return from which port; None over a Unix socket."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    with closing(connection):
        own = None
        if host == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(port)
        else:
            connection.sock = socket.create_connection((host.strip("[]"), int(port)))
            own = connection.sock.getsockname()[1]
        _post(connection, CLUSTERS, b'{"node": {"id": "node-1"}}', "POST")
    return own


@pytest.mark.parametrize("has_one", [False, True], ids=["none", "untrusted"])
async def test_without_a_trusted_certificate_there_is_no_answer(*, has_one: bool) -> None:
    """K4: the server ends the handshake before a request is read."""
    pair, stranger = Pair.make(), Pair.make()
    if has_one:
        tls = stranger.client_context(pair)
    else:
        tls = ssl.create_default_context(cadata=pair.certificate.decode())
    async with (
        ResourceServer() as server,
        server.rest(tls=pair.server_context()) as address,
        client(address, tls) as connection,
    ):
        with pytest.raises((OSError, http.client.HTTPException)) as ended:
            await post(connection)

    # Else it would be the client that does not believe the server.
    assert not isinstance(ended.value, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("at", ["127.0.0.1:0", "unix:{}/rest"], ids=["TCP", "Unix"])
async def test_who_is_slow_with_a_handshake_is_not_waited_for(at: str, tmp_path: Path) -> None:
    """K1: a connection over which nobody could ask for anything is cut."""
    limits = ServerLimits(handshake_seconds=0.05)
    async with (
        ResourceServer(limits=limits) as server,
        server.rest(at.format(tmp_path), tls=Pair.make().server_context()) as address,
    ):
        assert await say(address, b"\x16\x03\x01") == b""


async def test_tls_asks_for_certificates() -> None:
    """A context that does not is refused with a sentence, as an oversight."""
    lax = Pair.make().server_context()
    lax.verify_mode = ssl.CERT_OPTIONAL
    async with ResourceServer() as server:
        with pytest.raises(InvalidArgument, match="needs verify_mode CERT_REQUIRED"):
            async with server.rest(tls=lax):
                pass


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    """Plaintext on the same machine needs no port."""
    path = tmp_path / "rest.sock"
    async with ResourceServer() as server, server.rest(f"unix:{path}") as address:
        server.set_resources("node-1", [WEB])
        reader, writer = await asyncio.open_unix_connection(path)
        body = b'{"node": {"id": "node-1"}}'
        writer.write(
            b"POST /v3/discovery:clusters HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()

    assert address == f"unix:{path}"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_ipv6_is_an_address() -> None:
    """It is written in brackets, as it is everywhere."""
    async with ResourceServer() as server, server.rest("[::1]:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection("::1", int(port))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()

    assert host == "[::1]"
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_an_address_that_cannot_be_had_is_said() -> None:
    """One that is taken, and one that is none: why, and what is to be set to another."""
    async with ResourceServer() as server, server.rest() as address:
        for other, reason in (
            (address, "address already in use: end what listens there "),
            ("here", "it cannot be had: set another address of REST-JSON"),
            ("127.0.0.1:65536", "it cannot be had: set another address of REST-JSON"),
            ("unix:/nowhere/rest", "no such file or directory: set another address of REST-JSON"),
        ):
            with pytest.raises(ConfigurationError) as failed:
                async with server.rest(other):
                    pass
            assert str(failed.value).startswith(f"cannot listen on {other}: {reason}")


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_cancelled_leaves_nobody_listening(turns: int) -> None:
    """At whatever point that is: nobody would be left to stop what listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def be_polled() -> None:
        async with server.rest(f"127.0.0.1:{port}"):
            await asyncio.Event().wait()

    async with ResourceServer() as server:
        polled = asyncio.create_task(be_polled())
        for _ in range(turns):
            await asyncio.sleep(0)
        polled.cancel()
        await asyncio.wait([polled])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_it_is_polled_while_it_runs() -> None:
    """Before the server is started there is nothing to poll, and after it neither."""
    server = ResourceServer()
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="start the server"):
            async with server.rest():
                pass
        async with server:
            pass


async def test_it_takes_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed no more than the rest is told what to install."""
    monkeypatch.setitem(sys.modules, "h11", None)
    for module in ("services", "connection"):
        monkeypatch.delitem(sys.modules, f"control_plane.server.rest.{module}")
    async with ResourceServer() as server:
        with pytest.raises(ConfigurationError, match=r"^REST-JSON needs h11: pip install h11$"):
            async with server.rest():
                pass


async def test_a_server_that_stops_ends_its_connections() -> None:
    """One that is open and idle is no reason to wait."""
    async with ResourceServer() as server:
        server.set_resources("node-1", [WEB])
        async with server.rest() as address:
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionResetError):
                await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        writer.close()
