"""Mutual TLS: who is let in by the handshake, and what is known of them after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from cryptography import x509
from envoy.config.cluster.v3 import cluster_pb2

from control_plane.errors import PermissionDenied
from control_plane.server.access.admission import PeerContext
from control_plane.server.library import ResourceServer
from control_plane.xds.messages import Node
from control_plane.xds.resource_type import CLUSTER
from tests.server.documents import documented
from tests.server.pairs import SPIFFE, Pair
from tests.server.world import names
from tests.xds_client import DeltaClient


class ByCertificate:
    """Lets a client in as the node that the last part of its SPIFFE id names."""

    def admit(self, node: Node, context: PeerContext) -> None:
        """Compare claim and proof."""
        identities = [each.decode() for each in context.peer_identities() or ()]
        if not any(each.endswith(f"/instance/{node.id}") for each in identities):
            raise PermissionDenied("node.id is not that of the certificate")


@asynccontextmanager
async def channel_to(
    server: ResourceServer, trusted: Pair, own: Pair | None
) -> AsyncIterator[grpc.aio.Channel]:
    """Connect with TLS, with a certificate of one's own or without."""
    credentials = grpc.ssl_channel_credentials(
        trusted.certificate, own.key if own else None, own.certificate if own else None
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(server.address, credentials, options=options) as channel:
        yield channel


def server_of(pair: Pair) -> ResourceServer:
    """Return a server that asks for client certificates and looks at them."""
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], pair.certificate, require_client_auth=True
    )
    server = ResourceServer("localhost:0", credentials=credentials, admission=ByCertificate())
    server.set_resources("*", [cluster_pb2.Cluster(name="c")])
    return server


async def test_the_names_in_the_clients_certificate_are_known() -> None:
    """A stream keeps whom the handshake proved, and admission can compare it with the node."""
    pair = Pair.make()
    async with (
        server_of(pair) as server,
        channel_to(server, pair, pair) as channel,
        DeltaClient(channel, "node-1") as client,
        DeltaClient(channel, "node-2") as impostor,
    ):
        await client.subscribe(CLUSTER)
        await impostor.subscribe(CLUSTER)

        assert names((await client.receive()).resources) == ["c"]
        assert await impostor.status() == (
            grpc.StatusCode.PERMISSION_DENIED,
            "node.id is not that of the certificate",
        )
        (live,) = server._nodes.all_streams()
        assert SPIFFE in live.identities


async def test_the_documents_admission_lets_in_whom_the_certificate_names() -> None:
    """The example is all that it takes: no node can say to be another one."""
    pair = Pair.make(x509.UniformResourceIdentifier("spiffe://example.org/node-1"))
    server_at = documented("ByCertificate")["server_at"]
    made: ResourceServer = server_at("localhost:0", pair.key, pair.certificate, pair.certificate)
    async with (
        made as server,
        channel_to(server, pair, pair) as channel,
        DeltaClient(channel, "node-1") as client,
        DeltaClient(channel, "node-2") as impostor,
    ):
        server.set_resources("*", [cluster_pb2.Cluster(name="c")])
        await client.subscribe(CLUSTER)
        await impostor.subscribe(CLUSTER)

        assert names((await client.receive()).resources) == ["c"]
        code, _ = await impostor.status()
        assert code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("has_one", [False, True], ids=["none", "untrusted"])
async def test_without_a_trusted_certificate_there_is_no_stream(*, has_one: bool) -> None:
    """The handshake fails before a byte of a request is read."""
    pair, stranger = Pair.make(), Pair.make() if has_one else None
    async with (
        server_of(pair) as server,
        channel_to(server, pair, stranger) as channel,
        DeltaClient(channel, "node-1") as client,
    ):
        asking = asyncio.create_task(client.subscribe(CLUSTER))
        code, _ = await client.status()
        await asyncio.gather(asking, return_exceptions=True)

        assert code is grpc.StatusCode.UNAVAILABLE
        assert server._nodes.all_streams() == ()
