"""HTTP/2 and gRPC: the client chooses what it speaks, and the app is asked in what it speaks."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc
import h2.connection
import h2.errors
import pytest

from control_plane.model.entities import AppProtocol
from tests.envoy import apps, http2
from tests.envoy.served import served

UnaryUnary: TypeAlias = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
StreamStream: TypeAlias = grpc.aio.StreamStreamMultiCallable[bytes, bytes]

WINDOW = 65_535
"""How much an HTTP/2 peer may send at first (RFC 9113, section 6.9.2)."""

HTTP1, HTTP2 = AppProtocol.HTTP1, AppProtocol.HTTP2


async def test_a_client_chooses_the_http_version() -> None:
    """h2 and http/1.1 are offered by ALPN, and both reach an HTTP/1.1 app."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        async with instance.connect(alpn=("h2", "http/1.1")) as connection:
            client = http2.Client(connection)
            responses = [await client.request("/two", headers=[("cookie", "a=b")]) for _ in "12"]
        async with instance.connect(alpn=("http/1.1",)) as connection:
            assert connection.leaf.alpn == "http/1.1"
            await connection.request("/one")

    assert [(response.status, response.body) for response in responses] == [(200, b"hello")] * 2
    assert responses[0].headers["server"] == "tiny/1"
    assert [request.head[0] for request in app.requests] == [
        "GET /two HTTP/1.1",
        "GET /two HTTP/1.1",
        "GET /one HTTP/1.1",
    ]


async def test_an_http2_app_is_asked_in_http2() -> None:
    """An http2 app gets HTTP/2 in plaintext, with the scheme of plaintext, from any client."""
    async with apps.tcp_app(http2.http2_app) as app, served(app, HTTP2) as instance:
        async with instance.connect(alpn=("h2",)) as connection:
            response = await http2.Client(connection).request(headers=[("x-y", "z")])
        async with instance.connect() as connection:
            answer = await connection.request("/from-http1")

    assert (response.status, response.body, response.trailers) == (200, b"hello", {"x-sum": "5"})
    assert (answer.status, answer.body) == (200, b"hello")
    for request in app.requests:
        assert ":scheme: http" in request.head
        assert "x-forwarded-proto: https" in request.head
    assert "x-y: z" in app.requests[0].head


async def test_no_client_of_an_http2_app_waits_for_another() -> None:
    """Each has a connection to the app, so an upload that is not read holds up its own only."""
    size = 1_000_000
    async with (
        apps.tcp_app(http2.http2_app) as app,
        served(app, HTTP2) as instance,
        instance.connect() as one,
        instance.connect() as two,
    ):
        head = f"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        one.writer.write(head.encode() + bytes(size))

        sent = f"cluster.{instance.cluster}.upstream_cx_tx_bytes_total"
        await instance.envoy.wait_for(
            lambda stats: stats.get(sent, 0) >= WINDOW, what="the app's window is full", prefix=sent
        )
        assert (await two.request(method="PUT", body=b"short")).body == b"hello"
        assert app.connections == 2


async def test_a_method_that_envoy_does_not_know_passes_in_http2_only() -> None:
    """In HTTP/1.1 its parser refuses all but some thirty, of which WebDAV's are."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        async with instance.connect(alpn=("h2",)) as connection:
            response = await http2.Client(connection).request(method="BREW", body=b"tea")
        async with instance.connect() as connection:
            known = await connection.request(method="PROPFIND", body=b"depth")
        async with instance.connect() as connection:
            unknown = await connection.request(method="BREW")

    assert (response.status, known.status, unknown.status) == (200, 200, 400)
    assert [each.head[0] for each in app.requests] == ["BREW / HTTP/1.1", "PROPFIND / HTTP/1.1"]


async def test_a_malformed_response_is_the_fault_of_one_request() -> None:
    """It is a 502; other requests of its client, on the same connection to the app, go on."""
    waiting: list[int] = []

    def answer(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
        match path:
            case "/wait":
                waiting.append(stream)
            case "/malformed":
                fields = [(":status", "200"), ("no name", "")]
                connection.send_headers(stream, fields, end_stream=True)
            case _:
                for each in (*waiting, stream):
                    connection.send_headers(each, [(":status", "200")], end_stream=True)

    async with (
        apps.tcp_app(http2.answering(answer)) as app,
        served(app, HTTP2) as instance,
        instance.connect(alpn=("h2",)) as connection,
    ):
        client = http2.Client(connection)
        patient = client.begin("/wait")
        assert (await client.request("/malformed")).status == 502
        assert patient not in client.answered
        assert (await client.request("/")).status == 200
        assert patient in client.answered
        assert app.connections == 1


async def test_requests_that_an_app_refuses_are_sent_again() -> None:
    """What it did not look at (REFUSED_STREAM), and nothing else: what failed may have happened."""
    streams: list[int] = []

    def answer(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
        streams.append(stream)
        if path == "/fails":
            connection.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif len(streams) < 3:
            connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        else:
            connection.send_headers(stream, [(":status", "200")], end_stream=True)

    async with (
        apps.tcp_app(http2.answering(answer)) as app,
        served(app, HTTP2) as instance,
        instance.connect() as connection,
    ):
        assert (await connection.request(method="POST", body=b"order")).status == 200
        assert len(streams) == 3
        streams.clear()
        assert (await connection.request(method="POST", body=bytes(1_000_000))).status == 200
        assert len(streams) == 3
        assert (await connection.request("/fails")).status == 503
        assert len(streams) == 4


async def test_an_http2_app_has_no_idle_connection_to_close() -> None:
    """Envoy closes it first, so no request meets a connection that the app is just closing."""
    ended = asyncio.Event()

    async def until_the_end(
        app: apps.App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await http2.http2_app(app, reader, writer)
        ended.set()

    async with (
        apps.tcp_app(until_the_end) as app,
        served(app, HTTP2) as instance,
        instance.connect() as connection,
    ):
        for _ in "12":
            assert (await connection.request()).status == 200
        assert not ended.is_set()
        async with asyncio.timeout(10):
            await ended.wait()

        assert (await connection.request()).status == 200
        assert app.connections == 2


async def test_a_malformed_request_is_the_fault_of_nothing_else() -> None:
    """Its stream is reset (RFC 9113, section 8.1.1), and the client's connection goes on."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect(alpn=("h2",)) as connection,
    ):
        client = http2.Client(connection)
        with pytest.raises(ConnectionResetError, match="StreamReset"):
            await client.request(headers=[("no name", "")])
        assert (await client.request()).status == 200


async def test_grpc_calls_and_streams_pass() -> None:
    """Unary calls with trailers, and a stream in both directions, reach a gRPC app."""
    async with (
        apps.grpc_echo() as app,
        served(app, HTTP2) as instance,
        instance.channel() as channel,
    ):
        unary: UnaryUnary = channel.unary_unary("/echo.Echo/Unary")
        call = unary(b"question")
        assert await call == b"question"
        assert ("x-trailer", "kept") in tuple(await call.trailing_metadata() or ())

        bidirectional: StreamStream = channel.stream_stream("/echo.Echo/Stream")
        stream = bidirectional()
        for message in (b"1", b"2", b"3"):
            await stream.write(message)
            assert await stream.read() == message
        await stream.done_writing()

    assert len(app.requests) == 2
