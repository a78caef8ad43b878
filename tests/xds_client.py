"""A small xDS client that does exactly what a test or a benchmark tells it.

The rule of this module: it has none of the project's protocol code in it, so that what a test
proves is proved from outside, and it never answers by itself, so that a test can also be a bad
client. It remembers only what every client has to: names, nonces and versions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc
from envoy.service.discovery.v3 import discovery_pb2

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

Response = Any
"""A ``DiscoveryResponse`` or a ``DeltaDiscoveryResponse``; they are made at run time, no stubs."""

PATIENCE = 10.0
"""Seconds after which a test that waits for a message has failed."""

SILENCE = 0.15
"""Seconds without a message after which none is expected: a push over loopback takes about one."""


class StreamEnded(Exception):
    """The server ended the stream, with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        """Remember the status."""
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class _Client:
    """What both variants have in common: a stream, and whatever came on it."""

    method = ""
    request_type: Any = None
    response_type: Any = None

    def __init__(self, channel: grpc.aio.Channel, node_id: str, method: str | None = None) -> None:
        """Describe a stream; ``async with`` opens it."""
        self.node_id = node_id
        self._node: dict[str, object] | None = {"id": node_id}
        self._call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            method or ADS + self.method
        )
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Open the stream."""
        self._stream = self._call()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go away without a word, as a client does that was killed."""
        self._stream.cancel()
        await self._reader

    async def send(self, **fields: object) -> None:
        """Send a request with these fields; the first says who the client is."""
        node, self._node = self._node, None
        await self.send_raw(self.request_type(**{"node": node, **fields}).SerializeToString())

    async def send_raw(self, raw: bytes) -> None:
        """Send these bytes."""
        await self._stream.write(raw)

    async def done_writing(self) -> None:
        """Close the sending side."""
        await self._stream.done_writing()

    async def receive(self, timeout: float = PATIENCE) -> Response:
        """Return the next response.

        Raises:
            StreamEnded: there is none, since the server ended the stream.
            TimeoutError: none came in that many seconds.
        """
        raw = await asyncio.wait_for(self._inbox.get(), timeout)
        if raw is None:
            self._inbox.put_nowait(None)
            raise StreamEnded(await self._stream.code(), await self._stream.details())
        return self.response_type.FromString(raw)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the server ended the stream; whatever else came before is dropped."""
        try:
            while True:
                await self.receive()
        except StreamEnded as ended:
            return ended.code, ended.details

    async def is_silent(self, seconds: float = SILENCE) -> bool:
        """Tell whether nothing comes in that many seconds."""
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False

    async def _read(self) -> None:
        try:
            async for raw in self._stream:
                self._inbox.put_nowait(raw)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        finally:
            self._inbox.put_nowait(None)


class SotwClient(_Client):
    """A client of the state-of-the-world variant."""

    method = "StreamAggregatedResources"
    request_type = discovery_pb2.DiscoveryRequest
    response_type = discovery_pb2.DiscoveryResponse

    def __init__(self, channel: grpc.aio.Channel, node_id: str, method: str | None = None) -> None:
        """Describe a stream; ``async with`` opens it."""
        super().__init__(channel, node_id, method)
        self.names: dict[str, tuple[str, ...]] = {}
        self.versions: dict[str, str] = {}
        self.nonces: dict[str, str] = {}

    async def subscribe(self, type_url: str, *names: str) -> None:
        """Ask for exactly these resources of a type from now on."""
        self.names[type_url] = names
        await self._request(type_url)

    async def ack(self, response: Response) -> None:
        """Accept a response."""
        self.versions[response.type_url] = response.version_info
        self.nonces[response.type_url] = response.nonce
        await self._request(response.type_url)

    async def nack(self, response: Response, message: str = "refused") -> None:
        """Refuse a response, and stay with the version before it."""
        self.nonces[response.type_url] = response.nonce
        await self._request(response.type_url, error_detail={"code": 13, "message": message})

    async def _request(self, type_url: str, **fields: object) -> None:
        await self.send(
            type_url=type_url,
            resource_names=self.names[type_url],
            version_info=self.versions.get(type_url, ""),
            response_nonce=self.nonces.get(type_url, ""),
            **fields,
        )


class DeltaClient(_Client):
    """A client of the incremental variant."""

    method = "DeltaAggregatedResources"
    request_type = discovery_pb2.DeltaDiscoveryRequest
    response_type = discovery_pb2.DeltaDiscoveryResponse

    async def subscribe(
        self, type_url: str, *names: str, has: Mapping[str, str] | None = None
    ) -> None:
        """Ask for these resources as well; on a first request of a type, say what it has of it."""
        await self.send(
            type_url=type_url, resource_names_subscribe=names, initial_resource_versions=has or {}
        )

    async def unsubscribe(self, type_url: str, *names: str) -> None:
        """Give these up."""
        await self.send(type_url=type_url, resource_names_unsubscribe=names)

    async def ack(self, response: Response) -> None:
        """Accept a response."""
        await self.send(type_url=response.type_url, response_nonce=response.nonce)

    async def nack(self, response: Response, message: str = "refused") -> None:
        """Refuse a response."""
        await self.send(
            type_url=response.type_url,
            response_nonce=response.nonce,
            error_detail={"code": 13, "message": message},
        )


@asynccontextmanager
async def plaintext_channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a connection that is shared with no other channel of this process."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel
