"""The smallest delta ADS server that can feed a real Envoy: a test double, and no more.

The rule of this module: it sends what it is told to send, byte for byte, and notes every NACK. It
has none of the project's protocol code in it, so that a builder's test proves the builder alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from control_plane.envoy import bootstrap

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION_CONFIG = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

_METHOD = "DeltaAggregatedResources"
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_WILDCARDS = (CLUSTER, LISTENER)


@dataclass(slots=True)
class FakeAds:
    """What every Envoy that connects should have, and what they said about it.

    Attributes:
        port: where it listens, on 127.0.0.1 if nobody said otherwise.
        nacks: the text of each NACK.
        nodes: the node ID of each request that had one.
        peers: each stream's peer certificate, in PEM, or b"" without TLS.
    """

    port: int = 0
    nacks: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    peers: list[bytes] = field(default_factory=list)
    wanted: dict[str, dict[str, bytes]] = field(default_factory=dict)
    streams: list[_Stream] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def bootstrap(
        self,
        admin_socket: Path,
        *,
        host: str = "127.0.0.1",
        tls: bootstrap.XdsIdentity | None = None,
        limits: bootstrap.Limits = bootstrap.DEFAULT_LIMITS,
    ) -> str:
        """Return what an Envoy starts with that connects here; without files, in plaintext."""
        return bootstrap.render(
            "instance-1",
            xds_address=host,
            xds_port=self.port,
            admin_socket=admin_socket,
            tls=tls,
            limits=limits,
        )

    async def put(self, type_url: str, name: str, value: bytes | None) -> None:
        """Change one resource, or remove it with None; return when all who want it answered."""
        async with self.changed:
            resources = self.wanted.setdefault(type_url, {})
            if value is None:
                resources.pop(name, None)
            else:
                resources[name] = value
            self.changed.notify_all()
            async with asyncio.timeout(10):
                await self.changed.wait_for(lambda: all(s.settled() for s in self.streams))

    async def hang_up(self) -> None:
        """End every stream; an Envoy comes back by itself."""
        async with self.changed:
            for stream in self.streams:
                stream.ended = True
            self.changed.notify_all()

    async def serve(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Speak delta ADS on one stream."""
        self.peers.append(b"".join(context.auth_context().get("x509_pem_cert", [])))
        stream = _Stream(self)
        self.streams.append(stream)
        reading = asyncio.create_task(stream.read(requests))
        try:
            async for response in stream.responses():
                yield response
        finally:
            self.streams.remove(stream)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


@dataclass(slots=True, eq=False)
class _Stream:
    """One Envoy's stream: the names that it wants, and the versions that it was sent."""

    ads: FakeAds
    names: dict[str, set[str]] = field(default_factory=dict)
    sent: dict[str, dict[str, str]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    nonces: int = 0
    ended: bool = False

    def settled(self) -> bool:
        """Tell whether the Envoy has said something to everything that it should have."""
        return not self.unanswered and not any(map(self._difference, self.names))

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Take note of subscriptions, ACKs and NACKs."""
        async for request in requests:
            async with self.ads.changed:
                if request.node.id:
                    self.ads.nodes.append(request.node.id)
                if request.HasField("error_detail"):
                    self.ads.nacks.append(request.error_detail.message)
                names = self.names.setdefault(request.type_url, set())
                names |= set(request.resource_names_subscribe)
                names -= set(request.resource_names_unsubscribe)
                for name in request.resource_names_subscribe:
                    self.sent.get(request.type_url, {}).pop(name, None)
                self.unanswered.discard(request.response_nonce)
                self.ads.changed.notify_all()

    async def responses(self) -> AsyncIterator[Any]:
        """Yield what differs from what was sent, whenever something changes."""
        while not self.ended:
            async with self.ads.changed:
                await self.ads.changed.wait_for(
                    lambda: self.ended or any(map(self._difference, self.names))
                )
                responses = [
                    self._response(url, *difference)
                    for url in self.names
                    if (difference := self._difference(url))
                ]
            for response in responses:
                yield response

    def _difference(self, url: str) -> tuple[dict[str, bytes], list[str]] | None:
        names, sent = self.names[url], self.sent.get(url)
        wanted = {
            name: value
            for name, value in self.ads.wanted.get(url, {}).items()
            if url in _WILDCARDS or name in names
        }
        updated = {k: v for k, v in wanted.items() if (sent or {}).get(k) != _version(v)}
        removed = [name for name in sent or {} if name not in wanted]
        first = sent is None and url in _WILDCARDS
        return (updated, removed) if updated or removed or first else None

    def _response(
        self, url: str, updated: dict[str, bytes], removed: list[str]
    ) -> discovery_pb2.DeltaDiscoveryResponse:
        sent = self.sent.setdefault(url, {})
        sent.update({name: _version(value) for name, value in updated.items()})
        for name in removed:
            del sent[name]
        self.nonces += 1
        self.unanswered.add(str(self.nonces))
        response = discovery_pb2.DeltaDiscoveryResponse(
            type_url=url, nonce=str(self.nonces), removed_resources=removed
        )
        for name, value in updated.items():
            resource = response.resources.add(name=name, version=_version(value))
            resource.resource.type_url = url
            resource.resource.value = value
        return response


@contextlib.asynccontextmanager
async def fake_ads(
    credentials: grpc.ServerCredentials | None = None, *, address: str = "127.0.0.1"
) -> AsyncIterator[FakeAds]:
    """Serve ADS on a port of its own until the block ends."""
    ads = FakeAds()
    handler = grpc.stream_stream_rpc_method_handler(
        ads.serve,
        request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
    )
    # Envoy pings every 30 s; unless told, gRPC takes that for an attack and hangs up.
    server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", 10_000)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler}),)
    )
    if credentials is None:
        ads.port = server.add_insecure_port(f"{address}:0")
    else:
        ads.port = server.add_secure_port(f"{address}:0", credentials)
    await server.start()
    try:
        yield ads
    finally:
        await server.stop(None)


def _version(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:12]
