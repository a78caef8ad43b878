"""Slow and odd traffic while the certificate changes under it: nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import grpc

from tests.e2e import traffic
from tests.e2e.site import Instance, Site, site
from tests.envoy import apps, http2
from tests.envoy.harness import C2C_PORT
from tests.envoy.tls_client import Connection
from tests.promises import none_failed

StreamStream: TypeAlias = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
UnaryUnary: TypeAlias = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

UPLOAD = 50_000_000
CHUNK = 1_000_000
HOST = "app-b"
MODIFIED = "listener_manager.listener_modified"


async def rotate(cloud: Site, instance: Instance, number: int) -> None:
    """Change the certificate so many times, and see each one served."""
    serials = set()
    for turn in range(number):
        change = cloud.unmap if turn % 2 else cloud.map
        assert (await change(HOST, "other")).complete
        serials.add((await instance.serves()).serial)
    assert len(serials) == number


@contextlib.asynccontextmanager
async def untouched(instance: Instance) -> AsyncIterator[None]:
    """Make sure that the listener is not touched in the block."""
    before = await instance.envoy.stat(MODIFIED)
    yield
    assert await instance.envoy.stat(MODIFIED) == before


async def open_websocket(connection: Connection) -> None:
    """Upgrade a connection."""
    answer = await connection.request(
        headers=["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAA"]
    )
    assert answer.status == 101


async def test_idle_connections_and_a_slow_upload_outlive_rotations(tmp_path: Path) -> None:
    """A websocket that is silent, an idle HTTP/2 connection, and 50 MB that come slowly."""
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        async with (
            untouched(b),
            b.connect(HOST, source) as websocket,
            b.connect(HOST, source, alpn=("h2",)) as multiplexed,
            b.connect(HOST, source) as uploading,
        ):
            await open_websocket(websocket)
            client = http2.Client(multiplexed)
            assert (await client.request()).status == 200
            head = f"PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {UPLOAD}\r\n\r\n"
            uploading.writer.write(head.encode())
            digest = hashlib.sha256()
            for part in range(UPLOAD // CHUNK):
                chunk = bytes([part]) * CHUNK
                digest.update(chunk)
                uploading.writer.write(chunk)
                await uploading.writer.drain()
                if part % 10 == 5:
                    await rotate(cloud, b, 2)
            assert (await uploading.answer()).status == 200

            websocket.writer.write(apps.websocket_frame("one"))
            assert await websocket.reader.readexactly(5) == b"\x81\x03one"
            assert (await client.request()).status == 200

        upload = next(each for each in b.app.requests if each.body_length)
        assert (upload.body_length, upload.body_sha256) == (UPLOAD, digest.hexdigest())


async def test_http_1_0_and_an_app_that_closes_idle_connections(tmp_path: Path) -> None:
    """No request fails, over ten rotations, in spaced requests that meet closing connections."""
    closing = apps.http1(idle_close=0.02)
    async with site(tmp_path) as cloud, cloud.run(HOST, closing) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)

        async def old_school() -> None:
            async with b.connect(HOST, source) as connection:
                connection.writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await connection.answer()).status == 200
                assert await connection.reader.read() == b""

        async with b.connect(HOST, source) as kept:

            async def spaced() -> None:
                assert (await kept.request()).status == 200
                await asyncio.sleep(0.02)

            async with (
                untouched(b),
                traffic.calling(old_school) as old,
                traffic.calling(spaced) as modern,
            ):
                await rotate(cloud, b, 10)
                await modern.more(20)

        none_failed(old, modern)
        assert min(old.done, modern.done) > 5


async def test_grpc_calls_and_a_stream_go_on(tmp_path: Path) -> None:
    """A stream that was opened before the rotations answers after each of them."""
    async with site(tmp_path) as cloud, apps.grpc_echo() as echo:
        await cloud.create_app(HOST, ports=[echo.port], protocol="http2")
        async with cloud.start(HOST, echo) as b:
            await cloud.map(HOST, HOST)
            async with channel(cloud, b) as calls, untouched(b):
                unary: UnaryUnary = calls.unary_unary("/echo.Echo/Unary")
                bidirectional: StreamStream = calls.stream_stream("/echo.Echo/Stream")
                stream = bidirectional()
                for turn in range(5):
                    question = str(turn).encode()
                    await stream.write(question)
                    assert await stream.read() == question
                    assert await unary(question) == question
                    await rotate(cloud, b, 2)
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF


@contextlib.asynccontextmanager
async def channel(cloud: Site, instance: Instance) -> AsyncIterator[grpc.aio.Channel]:
    """Open a gRPC channel to an instance, verified in full; gRPC has no source address."""
    await cloud.caller(HOST, address="127.0.0.1")
    async with grpc.aio.secure_channel(
        f"{instance.address}:{C2C_PORT}",
        grpc.ssl_channel_credentials(instance.trust),
        options=[("grpc.ssl_target_name_override", f"{HOST}.apps.internal")],
    ) as opened:
        yield opened


async def test_a_tcp_app_keeps_its_connections(tmp_path: Path) -> None:
    """Bytes go on both ways over a connection from before, and new ones see the new certificate."""
    async with site(tmp_path) as cloud, cloud.run(HOST, apps.banner, protocol="tcp") as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        async with untouched(b), b.connect(HOST, source) as connection:
            assert await connection.reader.readline() == b"220 ready\r\n"
            for turn in range(3):
                await rotate(cloud, b, 2)
                connection.writer.write(f"{turn}\n".encode())
                assert await connection.reader.readline() == f"echo {turn}\n".encode()
