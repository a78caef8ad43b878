"""The HTTP port: a few paths for anybody, and little that anybody can do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import pytest

from control_plane.errors import ConfigurationError
from control_plane.server.http import server as http
from control_plane.server.http.server import Answer, HttpServer

HOST = "127.0.0.1"


def greet(headers: Mapping[str, str]) -> Answer:
    """Say hello to whoever says who it is."""
    return Answer(HTTPStatus.OK, f"hello {headers.get('from', 'you')}\n".encode())


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve one path until the block ends."""
    server = HttpServer({"/hello": greet})
    port = await server.start(HOST, 0)
    try:
        yield port
    finally:
        await server.stop()


async def say(port: int, request: bytes) -> bytes:
    """Send some bytes, and return all that comes back until the server closes or resets."""
    answer = b""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        with suppress(ConnectionResetError):
            answer = await reader.read()
        writer.close()
    return answer


def status_of(answer: bytes) -> int:
    """Return the status code of an answer."""
    return int(answer.split(b" ")[1])


async def test_a_path_is_answered() -> None:
    """RFC 9112: a status line, headers with the length, the body, and the end of the connection."""
    async with serving() as port:
        answer = await say(port, b"GET /hello HTTP/1.1\r\nHost: x\r\nFrom: me\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")

    assert lines[0] == "HTTP/1.1 200 OK"
    assert body == b"hello me\n"
    assert set(lines[1:]) == {
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 9",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    }


async def test_head_is_get_without_the_body() -> None:
    """RFC 9110, section 9.3.2: with the very headers that GET would have."""
    async with serving() as port:
        get = await say(port, b"GET /hello HTTP/1.1\r\n\r\n")
        head = await say(port, b"HEAD /hello HTTP/1.1\r\n\r\n")

    assert head == get.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


async def test_a_query_is_ignored() -> None:
    """Probes and browsers add what they like."""
    async with serving() as port:
        assert status_of(await say(port, b"GET /hello?verbose=1 HTTP/1.1\r\n\r\n")) == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://x/hello", 200),
        (b"HTTPS://x:8080/hello?verbose=1", 200),
        (b"http://[::1]/hello", 200),
        (b"http://x/goodbye", 404),
        (b"http://x", 404),
        (b"http://x?/hello", 404),
        (b"http:///hello", 400),
        (b"ftp://x/hello", 400),
    ],
)
async def test_the_absolute_form_means_its_path(target: bytes, status: int) -> None:
    """RFC 9112, section 3.2.2: a server MUST accept it; a host it has to have (RFC 9110, 4.2.1)."""
    async with serving() as port:
        answer = await say(port, b"GET " + target + b" HTTP/1.1\r\nHost: y\r\n\r\n")

    assert status_of(answer) == status


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /goodbye HTTP/1.1\r\n\r\n", 404),
        (b"GET /hello/ HTTP/1.1\r\n\r\n", 404),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"DELETE /hello HTTP/1.1\r\n\r\n", 405),
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /hello\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nA: " + b"x" * http.MAX_HEAD_OCTETS + b"\r\n\r\n", 431),
    ],
    ids=[
        "another path",
        "a path below",
        "POST",
        "DELETE",
        "nothing",
        "a word",
        "HTTP/0.9",
        "the server",
        "a tunnel",
        "HTTP/2",
        "TLS",
        "long headers",
    ],
)
async def test_anything_else_is_refused(request_: bytes, status: int) -> None:
    """With the status that says why, in words too, and without an answer of any path."""
    async with serving() as port:
        answer = await say(port, request_)

    assert status_of(answer) == status
    assert answer.endswith(f"\r\n\r\n{HTTPStatus(status).phrase}\n".encode())
    assert (b"Allow: GET, HEAD" in answer) == (status == 405)


async def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that asks for nothing is closed, whatever it began with."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)
    async with serving() as port:
        for beginning in (b"", b"GET /hel"):
            assert await say(port, beginning) == b""


async def test_who_ends_in_the_middle_is_no_exception() -> None:
    """It has nothing more to ask, so its connection is closed, and nobody is told of it."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with serving() as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /hel")
        writer.write_eof()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    assert complaints == []


async def test_of_too_many_connections_the_oldest_is_closed() -> None:
    """So whoever asks is answered, however many connections somebody holds and is silent on."""
    async with serving() as port:
        idle = [await asyncio.open_connection(HOST, port) for _ in range(http.MAX_CONNECTIONS)]
        answer = await say(port, b"GET /hello HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(http.REQUEST_SECONDS / 2):
            with suppress(ConnectionResetError):
                assert await idle[0][0].read() == b""
        are_open = [not reader.at_eof() for reader, _ in idle[1:]]
        for _, writer in idle:
            writer.close()

    assert status_of(answer) == 200
    assert all(are_open)


async def test_stopping_ends_what_is_under_way() -> None:
    """A client that takes its time does not hold up the end."""
    server = HttpServer({"/hello": greet})
    port = await server.start(HOST, 0)
    reader, writer = await asyncio.open_connection(HOST, port)
    async with asyncio.timeout(5):
        await server.stop()
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await say(port, b"GET /hello HTTP/1.1\r\n\r\n")


async def test_one_that_never_started_can_be_stopped() -> None:
    """Starting the rest may have failed before."""
    await HttpServer({}).stop()


async def test_an_address_that_is_taken_is_said() -> None:
    """The operator reads which address, one of IPv6 in brackets as everywhere, and why not."""
    for host, shown in ((HOST, HOST), ("::1", "[::1]")):
        server = HttpServer({})
        port = await server.start(host, 0)
        with pytest.raises(ConfigurationError) as caught:
            await HttpServer({}).start(host, port)
        await server.stop()
        assert str(caught.value).startswith(f"cannot listen on {shown}:{port}: address already in")
