"""What an allowed caller can make Envoy hold, and that others are served all the same."""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
from contextlib import AsyncExitStack

import h2.connection
import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame

from control_plane.envoy.bootstrap import Limits
from control_plane.model.entities import AppProtocol
from tests.envoy import apps, http2
from tests.envoy.harness import DEADLINE, until
from tests.envoy.served import HOST, Served, served

HTTP1, HTTP2, TCP = AppProtocol.HTTP1, AppProtocol.HTTP2, AppProtocol.TCP

MIB = 1 << 20

HELD = b"/held"
"""The path of requests that the app of these tests does not answer."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()


def _text(text: bytes) -> bytes:
    return bytes([len(text)]) + text


_WHERE = b"\x04" + _text(HELD) + b"\x01" + _text(HOST.encode())
_GET_BY_HTTPS = b"\x82\x87"
_LARGE = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000
_LARGE_AGAIN = b"\xbe"
"""HPACK (RFC 7541, section 6): a header of 4,000 octets, and the same once more."""


def _large_requests(count: int) -> bytes:
    """Return requests that have 1 MB of headers each, and take 300 octets each to send."""
    sent = _PREFACE
    for number in range(count):
        block = _GET_BY_HTTPS + _WHERE
        block += (_LARGE if number == 0 else _LARGE_AGAIN) + _LARGE_AGAIN * 250
        frame = HeadersFrame(2 * number + 1, block)
        frame.flags.add("END_HEADERS")
        frame.flags.add("END_STREAM")
        sent += frame.serialize()
    return sent


async def _patient(
    app: apps.App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer all requests but those that are held."""
    app.requests.append(apps.Request((start := (await reader.readline()).decode(),), 0, ""))
    if HELD.decode() in start:
        await asyncio.Event().wait()
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    await writer.drain()


async def _endless(
    app: apps.App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer with more than any buffer holds."""
    del app
    if (await reader.readline()).startswith(b"GET"):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(MIB))
        await writer.drain()


async def _allocated(instance: Served) -> int:
    return int(json.loads(await instance.envoy.admin("/memory"))["allocated"])


async def test_a_caller_cannot_have_envoy_killed() -> None:
    """Who holds more than Envoy may: others get 503 at once, and are served 20 s later.

    For then what does nothing is ended. Whatever else is sent meanwhile is not held at all, and new
    connections are closed.
    """
    async with (
        apps.tcp_app(_patient) as app,
        served(app, HTTP1, limits=Limits(memory=64 * MIB)) as instance,
        instance.connect() as other,
        instance.connect(alpn=("h2",)) as one,
        instance.connect(alpn=("h2",)) as two,
    ):

        async def status(wanted: int) -> bool:
            return (await other.request()).status == wanted

        async def has_at_most(octets: int) -> bool:
            return await _allocated(instance) <= octets

        assert await status(200)
        one.writer.write(_large_requests(80))
        await until(lambda: status(503), what="there is no memory")
        held = await _allocated(instance)
        assert held > 80 * MIB

        with pytest.raises((ConnectionError, ssl.SSLError)):
            async with instance.connect():
                pass

        two.writer.write(_large_requests(80))
        await instance.envoy.wait_for(
            lambda stats: sum(stats.values()) > 80,
            what="what is sent meanwhile is refused",
            prefix="http.stats-.*downstream_rq_overload_close",
        )
        await until(lambda: has_at_most(held + 10 * MIB), what="what was refused is not held")

        await until(lambda: status(200), what="the memory is free", timeout=2 * DEADLINE)
        assert await _allocated(instance) < 40 * MIB


async def test_headers_that_never_end_are_not_waited_for() -> None:
    """A request whose headers are not there after 15 s is ended, in both versions of HTTP."""
    block = _GET_BY_HTTPS + _WHERE
    async with (
        apps.tcp_app(_patient) as app,
        served(app, HTTP1) as instance,
        instance.connect() as one,
        instance.connect(alpn=("h2",)) as two,
    ):
        one.writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\nX-Slow: a")
        two.writer.write(_PREFACE + HeadersFrame(1, block).serialize())

        await instance.envoy.wait_for(
            lambda stats: sum(stats.values()) == 2,
            what="both ran out of time",
            prefix="http.stats-.*downstream_rq_header_timeout",
        )
        assert (await one.answer()).status == 408
        assert app.requests == []


async def test_an_http2_connection_has_bounds() -> None:
    """A client is told of 250 requests, and both it and the app of windows of 4 and 16 MiB."""
    windows: list[tuple[int, int]] = []

    def answer(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
        del path
        windows.append(http2.windows(connection))
        connection.send_headers(stream, [(":status", "200")], end_stream=True)

    async with (
        apps.tcp_app(http2.answering(answer)) as app,
        served(app, HTTP2) as instance,
        instance.connect(alpn=("h2",)) as connection,
    ):
        client = http2.Client(connection)
        assert (await client.request()).status == 200
        assert client.max_streams == 250
        assert [client.windows, *windows] == [(4 * MIB, 16 * MIB)] * 2


@pytest.mark.parametrize(("count", "status"), [(1_900, 200), (2_100, 431)])
async def test_a_request_has_2000_headers(count: int, status: int) -> None:
    """One with more is refused, whatever its bytes."""
    headers = [f"X-{number}: " for number in range(count)]
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        assert (await connection.request(headers=headers)).status == status


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_a_caller_cannot_take_all_open_files(protocol: AppProtocol) -> None:
    """Connections beyond 7/16 of Envoy's open files are closed, and others are served on.

    An Envoy without a file for its connection to a tcp app crashes.
    """
    limits = Limits(files=200)
    serve = apps.banner if protocol is TCP else apps.http1()
    async with (
        apps.tcp_app(serve) as app,
        served(app, protocol, limits=limits) as instance,
        AsyncExitStack() as held,
    ):
        resource.prlimit(instance.envoy.pid, resource.RLIMIT_NOFILE, (limits.files, limits.files))

        async def is_served(stack: AsyncExitStack) -> bool:
            try:
                connection = await stack.enter_async_context(instance.connect())
                if protocol is TCP:
                    return await connection.reader.readline() == b"220 ready\r\n"
                return (await connection.request()).status == 200
            except OSError:
                return False

        last = await held.enter_async_context(AsyncExitStack())
        answers = [await is_served(last), *[await is_served(held) for _ in range(150)]]

        assert answers == [True] * limits.connections + [False] * (151 - limits.connections)
        await last.aclose()

        async def is_free() -> bool:
            return await is_served(held)

        await until(is_free, what="the place of one that left is free")
        assert instance.envoy.process.returncode is None


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_who_does_not_read_makes_envoy_hold_little(protocol: AppProtocol) -> None:
    """Envoy takes some 256 KiB from each side before the other has taken it, not 1 MiB."""
    async with (
        apps.tcp_app(_endless) as app,
        served(app, protocol) as instance,
        instance.connect() as connection,
    ):
        transport = connection.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        taken: list[int] = []

        async def is_stuck() -> bool:
            taken.append(await instance.envoy.stat(received))
            await asyncio.sleep(0.2)
            return taken[-1] > 0 and taken[-5:] == [taken[-1]] * 5

        received = f"cluster.{instance.cluster}.upstream_cx_rx_bytes_total"
        await until(is_stuck, what="Envoy takes no more of the app")

        stats = await instance.envoy.stats("(cluster.service|http.stats|tcp.stats)")
        buffered = {name: value for name, value in stats.items() if name.endswith("_buffered")}
        assert 0 < sum(buffered.values()) < MIB, buffered
