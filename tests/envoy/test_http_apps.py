"""What an HTTP app and its clients see through Envoy: what they would see without it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import time

from control_plane.model.entities import AppProtocol
from tests.envoy import apps, tls_client
from tests.envoy.harness import C2C_PORT
from tests.envoy.served import HOST, served
from tests.envoy.tls_client import Connection

HTTP1 = AppProtocol.HTTP1


async def test_an_http1_app_sees_the_request_as_it_was_sent() -> None:
    """Path, Host, header names and values arrive unchanged; X-Forwarded-* is all that is added."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        await connection.request("/a//b/../c%2Fd;x?q=%20", headers=["X-CamelCase: Ab", "x-y:"])

    (request,) = app.requests
    forwarded_for = request.header("X-Forwarded-For") or request.header("x-forwarded-for")
    assert request.head == (
        "GET /a//b/../c%2Fd;x?q=%20 HTTP/1.1",
        f"Host: {HOST}",
        "X-CamelCase: Ab",
        "x-y: ",
        f"x-forwarded-for: {forwarded_for}",
        "x-forwarded-proto: https",
    )


async def test_a_client_sees_the_response_as_it_was_sent() -> None:
    """Reason phrase, header names and the Server header are the app's; only Date is added."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        answer = await connection.request()

    expected = ("HTTP/1.1 200 Fine", "X-ODD-Case: yes", "Server: tiny/1", "Content-Length: 5")
    assert answer.head[:-1] == expected
    assert answer.head[-1].startswith("date: ")
    assert answer.body == b"hello"


async def test_a_response_may_tell_its_length_twice() -> None:
    """Chunks count where Content-Length is there too, and only they reach the client."""

    async def twice(request: apps.Request, writer: asyncio.StreamWriter) -> None:
        del request
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"2\r\nok\r\n0\r\n\r\n")

    async with (
        apps.tcp_app(apps.http1(twice)) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        answer = await connection.request()

    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.header("content-length") is None


async def test_what_apps_trust_cannot_be_forged() -> None:
    """A client cannot choose what Envoy says of it: address, scheme and client certificate."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect(source="127.0.0.9") as connection,
    ):
        await connection.request(
            headers=[
                "X-Forwarded-For: 10.1.1.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Client-Cert: Hash=abc",
                "X-Envoy-External-Address: 10.1.1.1",
                "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
                "X-Request-Id: of-the-client",
            ]
        )

    headers = [line.lower() for line in app.requests[0].head[1:]]
    assert sorted(headers) == [
        f"host: {HOST}",
        "x-forwarded-for: 10.1.1.1,127.0.0.9",
        "x-forwarded-proto: https",
        "x-request-id: of-the-client",
    ]


async def test_what_apps_trust_cannot_be_forged_by_another_spelling() -> None:
    """Where WSGI takes "_" for "-", a client can choose no more of what Envoy says of it."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect(source="127.0.0.9") as connection,
    ):
        await connection.request(
            headers=[
                "X_Forwarded_For: 10.1.1.1",
                "X-Forwarded_For: 10.1.1.1",
                "x_forwarded-proto: http",
                "X_FORWARDED_CLIENT_CERT: Hash=abc",
                "X-Forwarded-Client_Cert: Hash=abc",
                "api_key: of-the-client",
            ]
        )

    headers = [line.lower() for line in app.requests[0].head[1:]]
    assert sorted(headers) == [
        "api_key: of-the-client",
        f"host: {HOST}",
        "x-forwarded-for: 127.0.0.9",
        "x-forwarded-proto: https",
    ]


async def test_headers_may_be_as_large_as_an_app_takes_them() -> None:
    """Requests and responses with 300 KiB and with 1,000 headers pass Envoy."""
    large = f"X-Large: {'x' * 300_000}"
    many = [f"X-{number}: {number}" for number in range(1000)]
    responder = apps.plain(b"ok", large, *many)
    async with (
        apps.tcp_app(apps.http1(responder)) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        answer = await connection.request(headers=[large, *many])

    assert {large, *many} <= set(app.requests[0].head)
    assert {large, *many} <= set(answer.head)


async def test_http_1_0_clients_and_apps() -> None:
    """A client without Host or keep-alive is served, also by an app that only knows HTTP/1.0."""
    async with apps.tcp_app(apps.http10) as app, served(app, HTTP1) as instance:
        async with instance.connect() as connection:
            connection.writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await connection.answer()

            assert (answer.status, answer.body) == (200, b"old school")
            assert await connection.reader.read() == b""
        async with instance.connect() as connection:
            assert (await connection.request()).body == b"old school"

    assert [request.header("Host") or request.header("host") for request in app.requests] == [
        "localhost",
        HOST,
    ]


async def test_the_app_decides_on_100_continue() -> None:
    """Expect reaches the app, and its refusal reaches the client before the body was sent."""

    async def refuse(
        app: apps.App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        app.requests.append(apps.Request(tuple(head.decode().split("\r\n")), 0, ""))
        writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    upload = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    async with (
        apps.tcp_app(refuse) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        connection.writer.write(upload)
        assert (await connection.answer()).status == 417
    assert app.requests[0].header("Expect") == "100-continue"

    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        connection.writer.write(upload)
        assert (await connection.answer()).status == 100
        connection.writer.write(b"123456789")
        assert (await connection.answer()).status == 200
    assert app.requests[0].body_length == 9


async def test_trailers_pass_in_both_directions() -> None:
    """HTTP/1.1 trailers, which Envoy drops unless told, reach the app and the client."""

    async def with_trailer(request: apps.Request, writer: asyncio.StreamWriter) -> None:
        del request
        head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")

    async with (
        apps.tcp_app(apps.http1(with_trailer)) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        connection.writer.write(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n0\r\nX-Check: 2\r\n\r\n"
        )
        raw = await connection.reader.readuntil(b"0\r\n")
        trailer = await connection.reader.readuntil(b"\r\n\r\n")

    assert app.requests[0].trailers == ("x-check: 2",)  # in lower case
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert trailer.lower() == b"x-sum: 2\r\n\r\n"


async def test_an_app_that_closes_idle_connections_costs_nobody_a_request() -> None:
    """Each request has an upstream connection of its own, so none meets one that is closing."""
    app_that_closes = apps.http1(idle_close=0.02)
    async with (
        apps.tcp_app(app_that_closes) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        for _ in range(40):
            assert (await connection.request()).status == 200
            await asyncio.sleep(0.02)

    assert app.connections == 40


async def test_large_bodies_stream_through() -> None:
    """50 MB up and 50 MB down arrive complete."""
    size = 50_000_000
    body = bytes(1000) * (size // 1000)
    async with (
        apps.tcp_app(apps.http1(apps.plain(body))) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        answer = await connection.request(method="PUT", body=body)

    assert app.requests[0].body_sha256 == hashlib.sha256(body).hexdigest()
    assert answer.body == body


async def test_a_client_that_pauses_gets_the_end_of_the_last_response() -> None:
    """A connection that is to close stays open until its client has taken what is left.

    What is left in Envoy after the sockets are full depends on the length, hence many of them.
    """

    async def as_long_as_asked(request: apps.Request, writer: asyncio.StreamWriter) -> None:
        length = int(request.head[0].split()[1].removeprefix("/"))
        await apps.plain(bytes(length))(request, writer)

    async with apps.tcp_app(apps.http1(as_long_as_asked)) as app, served(app, HTTP1) as instance:

        def received(length: int) -> int:
            with socket.socket() as plain:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                plain.connect((instance.address, C2C_PORT))
                context = tls_client.context(instance.authority.pem)
                with context.wrap_socket(plain, server_hostname=HOST) as connection:
                    head = f"GET /{length} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode())
                    time.sleep(2)
                    answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
                    return len(answer.partition(b"\r\n\r\n")[2])

        lengths = range(1_000_000, 9_000_000, 500_000)
        clients = [asyncio.to_thread(received, length) for length in lengths]
        assert await asyncio.gather(*clients) == list(lengths)


async def test_a_websocket_is_upgraded_and_answers() -> None:
    """A websocket handshake reaches the app, and frames go both ways."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        await _open_websocket(connection)
        for text in ("one", "two"):
            connection.writer.write(apps.websocket_frame(text))
            assert await connection.reader.readexactly(5) == b"\x81\x03" + text.encode()


async def test_a_client_hears_soon_that_an_app_went_away() -> None:
    """A websocket that its app closes, and a response that breaks off, end within seconds."""

    async def half(request: apps.Request, writer: asyncio.StreamWriter) -> None:
        del request
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with (
        apps.tcp_app(apps.http1(half)) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
        instance.connect() as websocket,
    ):
        await _open_websocket(websocket)
        websocket.writer.write(apps.websocket_frame(apps.GOODBYE))
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        async with asyncio.timeout(10):
            assert await websocket.reader.read() == b""
            assert (await connection.reader.read()).endswith(b"\r\n\r\nhello")


async def test_a_slow_app_and_an_idle_websocket_are_waited_for() -> None:
    """An answer after 16 s passes (Envoy's own limit is 15 s), and a websocket outlives it."""

    async def slow(request: apps.Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(16)
        await apps.hello(request, writer)

    async with (
        apps.tcp_app(apps.http1(slow)) as app,
        served(app, HTTP1) as instance,
        instance.connect() as idle,
        instance.connect() as waiting,
    ):
        await _open_websocket(idle)
        assert (await waiting.request()).status == 200
        idle.writer.write(apps.websocket_frame("yes"))
        assert await idle.reader.readexactly(5) == b"\x81\x03yes"


async def test_an_app_that_is_down_is_a_503() -> None:
    """While nothing listens on the app's port, a client gets 503 at once."""
    async with apps.tcp_app(apps.http1()) as app:
        pass
    async with served(app, HTTP1) as instance, instance.connect() as connection:
        assert (await connection.request()).status == 503


async def test_no_circuit_breaker_can_trip() -> None:
    """Envoy reports the largest limit it can express for both priorities, not 1024."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        report = await instance.envoy.admin("/clusters")

    limits = re.findall(rf"{instance.cluster}::(\w+)_priority::(\w+)::(\d+)", report)
    assert {(priority, name, int(value)) for priority, name, value in limits} == {
        (priority, name, 2**32 - 1)
        for priority in ("default", "high")
        for name in ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    }


async def _open_websocket(connection: Connection) -> None:
    key = base64.b64encode(bytes(16)).decode()
    answer = await connection.request(
        headers=[
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
    )
    assert answer.status == 101
