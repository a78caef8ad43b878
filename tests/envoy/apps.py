"""Small real apps to put behind an Envoy, in the test's own process.

The rule of this module: an app notes what it saw, byte for byte, so that a test can say what an app
behind Envoy gets. None knows anything of TLS, of Envoy or of this project.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

GOODBYE = "goodbye"
"""The text after which an app closes its websocket."""

_WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as an app saw it: start line and headers in their own case, body and trailers."""

    head: tuple[str, ...]
    body_length: int
    body_sha256: str
    trailers: tuple[str, ...] = ()

    def header(self, name: str) -> str | None:
        """Return the value of a header, whose name is compared as it was sent."""
        for line in self.head[1:]:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return None


Respond = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class App:
    """An app that listens on ``address:port``; ``connections`` and ``requests`` grow."""

    address: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


Serve = Callable[[App, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tcp_app(
    serve: Serve,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    sock: socket.socket | None = None,
) -> AsyncIterator[App]:
    """Run an app that does this with each connection, until the block ends.

    Args:
        serve: what it does.
        address: where it listens.
        port: on which port; 0 for one that is free.
        sock: what it listens on instead.
    """
    app = App(address)
    tasks: set[asyncio.Task[None]] = set()
    is_over = False

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_over:  # it was accepted just before
            writer.transport.abort()
            return
        app.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(app, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)
            writer.close()

    place: dict[str, Any] = {"sock": sock} if sock else {"host": address, "port": port}
    server = await asyncio.start_server(accept, limit=1 << 22, **place)
    app.port = server.sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        is_over = True
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def banner(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first, as SMTP does, then echo lines."""
    del app
    writer.write(b"220 ready\r\n")
    async for line in reader:
        writer.write(b"echo " + line)
        await writer.drain()


def http1(respond: Respond | None = None, *, idle_close: float | None = None) -> Serve:
    """Return an HTTP/1.1 app that keeps connections alive.

    Args:
        respond: answers a request; the default says "hello" in headers of odd case.
        idle_close: closes a connection that was idle for so many seconds after an answer, as many
            servers do.
    """

    async def serve(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patience: float | None = None
        while True:
            async with asyncio.timeout(patience) as idle:
                try:
                    head = await _head(reader)
                except TimeoutError:
                    return
                idle.reschedule(None)
            if _value(head, "upgrade").lower() == "websocket":
                await _websocket(head, reader, writer)
                return
            if _value(head, "expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = await _body(head, reader)
            app.requests.append(request)
            await (respond or hello)(request, writer)
            await writer.drain()
            patience = idle_close

    return serve


async def hello(request: Request, writer: asyncio.StreamWriter) -> None:
    """Answer with a reason phrase and header names that only this app would write."""
    head = "HTTP/1.1 200 Fine\r\nX-ODD-Case: yes\r\nServer: tiny/1\r\nContent-Length: 5\r\n\r\n"
    writer.write(head.encode())
    if not request.head[0].startswith("HEAD "):
        writer.write(b"hello")


def plain(body: bytes, *headers: str) -> Respond:
    """Return a responder that always gives this body with these headers."""

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        del request
        lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return respond


async def http10(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request in HTTP/1.0, where the end of the connection is the end of the body."""
    app.requests.append(await _body(await _head(reader), reader))
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold school")
    await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[str, ...]:
    return tuple((await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2])


def _value(head: tuple[str, ...], name: str) -> str:
    for line in head[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return ""


async def _body(head: tuple[str, ...], reader: asyncio.StreamReader) -> Request:
    digest, length, trailers = hashlib.sha256(), 0, []
    if _value(head, "transfer-encoding") == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            digest.update(await reader.readexactly(size))
            await reader.readline()
            length += size
        while line := (await reader.readline()).strip():
            trailers.append(line.decode())
    else:
        length = left = int(_value(head, "content-length") or 0)
        while left:
            data = await reader.read(min(left, 1 << 16))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            digest.update(data)
            left -= len(data)
    return Request(head, length, digest.hexdigest(), tuple(trailers))


async def _websocket(
    head: tuple[str, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Accept the upgrade (RFC 6455, section 4.2.2) and echo masked text frames under 126 bytes."""
    key = _value(head, "sec-websocket-key") + _WEBSOCKET_GUID
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324 RFC 6455
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(second & 0x7F)
        text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
        if text.decode() == GOODBYE:
            return
        writer.write(bytes([first, len(text)]) + text)
        await writer.drain()


def websocket_frame(text: str) -> bytes:
    """Return a client's text frame (RFC 6455, section 5.2), masked with zeros."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


@contextlib.asynccontextmanager
async def grpc_echo() -> AsyncIterator[App]:
    """Run a gRPC app in plaintext: ``/echo.Echo/Unary`` and ``/echo.Echo/Stream`` return bytes."""
    app = App()

    async def unary(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        app.requests.append(_grpc_request(context))
        context.set_trailing_metadata((("x-trailer", "kept"),))
        return request

    async def stream(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        app.requests.append(_grpc_request(context))
        async for request in requests:
            yield request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    app.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield app
    finally:
        await server.stop(None)


def _grpc_request(context: grpc.aio.ServicerContext[bytes, bytes]) -> Request:
    metadata = context.invocation_metadata() or ()
    return Request(("", *(f"{key}: {value!r}" for key, value in metadata)), 0, "")
