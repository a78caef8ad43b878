"""What an Envoy goes on using while it warms a listener that it accepted already."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import (
    tcp_proxy_pb2,  # noqa: F401 - its registration
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401 - likewise
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.resource_type import LISTENER
from tests.envoy.certificates import Authority
from tests.envoy.harness import Envoy, unique_address, until
from tests.server.envoys import FILTERS, NODE, OVER_ADS, accepted, envoy_of
from tests.waiting import eventually

PORT = 8443
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def cluster(name: str, port: int) -> Message:
    """Return a cluster that leads to a port of loopback."""
    at = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    endpoints = [{"lb_endpoints": [{"endpoint": at}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    fields = {"name": name, "type": "STATIC", "load_assignment": assignment}
    message: Message = ParseDict(fields, cluster_pb2.Cluster())
    return message


def listener(address: str, leads_to: str, secret: str = "") -> Message:
    """Return a listener that passes on whatever comes to a cluster, with TLS if it has a secret."""
    proxy = {"@type": FILTERS + "network.tcp_proxy.v3.TcpProxy"}
    proxy |= {"stat_prefix": "all", "cluster": leads_to}
    chain: dict[str, object] = {"filters": [{"name": "proxy", "typed_config": proxy}]}
    if secret:
        certificates = [{"name": secret, "sds_config": OVER_ADS}]
        common = {"tls_certificate_sds_secret_configs": certificates}
        context = {"@type": TLS, "common_tls_context": common}
        chain["transport_socket"] = {"name": "tls", "typed_config": context}
    at = {"socket_address": {"address": address, "port_value": PORT}}
    fields = {"name": "l", "address": at, "filter_chains": [chain]}
    message: Message = ParseDict(fields, listener_pb2.Listener())
    return message


def certificate(name: str) -> Any:  # noqa: ANN401 - a message, without stubs
    """Return a secret with a certificate."""
    pair = Authority().issue("app.example")
    inline = {"certificate_chain": pair.chain.decode(), "private_key": pair.key.decode()}
    fields = {key: {"inline_string": text} for key, text in inline.items()}
    return ParseDict({"name": name, "tls_certificate": fields}, secret_pb2.Secret())


async def greeting(address: str) -> bytes:
    """Return what a client hears that connects without TLS, and says nothing."""
    reader, writer = await asyncio.open_connection(address, PORT)
    try:
        with suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.close()


async def has_no(envoy: Envoy, name: str) -> bool:
    """Tell whether an Envoy has a cluster no more."""
    return f"{name}::" not in await envoy.admin("/clusters")


async def test_the_listener_before_works_until_the_next_one_has_its_secret() -> None:
    """O1, O3, A14: the cluster that only the one before leads to goes after that, not before."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    address = unique_address(PORT)
    app = await asyncio.start_server(greet, "127.0.0.1", 0)
    port: int = app.sockets[0].getsockname()[1]
    async with app, ResourceServer() as server:
        server.set_resources(NODE, [cluster("a", port), listener(address, "a")])
        async with envoy_of(server, "GRPC") as envoy:
            await accepted(server)
            assert await greeting(address) == b"hello"

            replaced = [cluster("b", port), listener(address, "b", "s")]
            server.set_resources(NODE, replaced)
            await eventually(
                lambda: all(
                    each.accepted == each.version
                    for each in server.deliveries(NODE)
                    if each.type_url == LISTENER
                ),
                "it accepted the listener",
            )
            assert await greeting(address) == b"hello"
            assert not await has_no(envoy, "a")

            server.set_resources(NODE, [*replaced, certificate("s")])
            await until(lambda: has_no(envoy, "a"), what="the cluster is withdrawn")
            await accepted(server)
