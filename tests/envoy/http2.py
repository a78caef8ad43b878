"""HTTP/2 on both ends, small enough to see every header: a client over TLS, and a plaintext app.

The rule of this module: the protocol is hyper-h2's; only bytes are moved here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from tests.envoy.apps import App, Request, Serve
from tests.envoy.harness import DEADLINE
from tests.envoy.tls_client import Connection

Headers = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Response:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return int(self.headers[":status"])


class Client:
    """An HTTP/2 client on a connection that negotiated h2; ``answered`` has its ended streams."""

    def __init__(self, connection: Connection) -> None:
        self.answered: set[int] = set()
        assert connection.leaf.alpn == "h2"
        self._connection = connection
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        )
        # RFC 9113, section 6.8: streams up to the last that GOAWAY names are still answered.
        machine, still_open = self._h2.state_machine, h2.connection.ConnectionState.CLIENT_OPEN
        goaway = (still_open, h2.connection.ConnectionInputs.RECV_GOAWAY)
        machine._transitions = {**machine._transitions, goaway: (None, still_open)}
        self._h2.initiate_connection()

    @property
    def max_streams(self) -> int:
        """How many requests the server takes at once, as far as it has said so."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def windows(self) -> tuple[int, int]:
        """How much the server takes unread of a request, and of all of them."""
        return windows(self._h2)

    async def request(
        self, path: str = "/", *, headers: Headers = (), body: bytes = b"", method: str = "GET"
    ) -> Response:
        """Send a request and wait for the end of its response."""
        stream = self.begin(path, headers=headers, body=body, method=method)
        response = Response()
        async with asyncio.timeout(DEADLINE):
            while not await self._step(response, stream):
                pass
        return response

    def begin(
        self, path: str = "/", *, headers: Headers = (), body: bytes = b"", method: str = "GET"
    ) -> int:
        """Have a request sent before the next that is waited for, and return its stream."""
        stream = self._h2.get_next_available_stream_id()
        pseudo = {":method": method, ":scheme": "https", ":path": path}
        fields = [*pseudo.items(), (":authority", "app-b.apps.internal"), *headers]
        self._h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        return stream

    async def _step(self, response: Response, stream: int) -> bool:
        """Move bytes once; tell whether the response on the stream has ended."""
        self._connection.writer.write(self._h2.data_to_send())
        data = await self._connection.reader.read(1 << 16)
        assert data, "the server closed the connection"
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived() if event.stream_id == stream:
                    response.headers = _text(event.headers)
                case h2.events.TrailersReceived():
                    response.trailers = _text(event.headers)
                case h2.events.DataReceived():
                    response.body += event.data
                    self._h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                case h2.events.StreamEnded():
                    self.answered.add(event.stream_id)
                case h2.events.StreamReset():
                    raise ConnectionResetError(f"{event}")
                case h2.events.ConnectionTerminated() if (event.last_stream_id or 0) < stream:
                    raise ConnectionResetError(f"{event}")
                case _:
                    pass
        self._connection.writer.write(self._h2.data_to_send())
        return stream in self.answered


def windows(connection: h2.connection.H2Connection) -> tuple[int, int]:
    """Return how much the peer takes unread of a new stream, and of the connection."""
    return connection.remote_settings.initial_window_size, connection.outbound_flow_control_window


Answer = Callable[[h2.connection.H2Connection, int, str], None]
"""Answers a request on a stream, for a path."""


def answering(answer: Answer, *, unread: str = "") -> Serve:
    """Return an app that serves plaintext HTTP/2 with prior knowledge, and notes the headers.

    Args:
        answer: answers a request once it is complete.
        unread: the path of requests whose bodies it does not take.
    """

    async def serve(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False, header_encoding="utf-8", validate_outbound_headers=False
            )
        )
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        paths: dict[int, str] = {}
        while data := await reader.read(1 << 16):
            for event in connection.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        headers = _text(event.headers)
                        lines = (f"{name}: {value}" for name, value in headers.items())
                        app.requests.append(Request(("", *lines), 0, ""))
                        paths[event.stream_id] = headers[":path"]
                    case h2.events.DataReceived() if paths[event.stream_id] != unread:
                        connection.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                    case h2.events.StreamEnded():
                        answer(connection, event.stream_id, paths.pop(event.stream_id))
                    case _:
                        pass
            writer.write(connection.data_to_send())
            await writer.drain()

    return serve


def _hello(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
    del path
    connection.send_headers(stream, [(":status", "200")])
    connection.send_data(stream, b"hello")
    connection.send_headers(stream, [("x-sum", "5")], end_stream=True)


http2_app = answering(_hello, unread="/unread")
"""Answers each request with "hello" and a trailer, and does not read what comes for /unread."""


def _text(headers: Sequence[tuple[bytes | str, bytes | str]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}
