"""gRPC's own xDS client as a client of the library: a peer that nobody here has written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

# The descriptors of what the listener carries in an Any.
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - its registration
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401 - its registration
)
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.resource_type import CLUSTER, LISTENER, ROUTE
from tests.server.watching import Watcher
from tests.waiting import ended, eventually
from tests.xds_client import PATIENCE

METHOD = "/example.v1.Greeter/Greet"
PROGRAM = Path(__file__).with_name("grpc_client.py")
TYPE = "type.googleapis.com/envoy.extensions.filters."
OVER_ADS = {"ads": {}, "resource_api_version": "V3"}
NODE = "grpc-client"


@asynccontextmanager
async def backend(name: str) -> AsyncIterator[int]:
    """Run a gRPC server that answers with its name; return its port."""

    async def greet(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return name.encode()

    server = grpc.aio.server()
    service, _, method = METHOD[1:].partition("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.unary_unary_rpc_method_handler(greet)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def client_of(
    server: ResourceServer, patience: str = "patient"
) -> AsyncIterator[asyncio.StreamReader]:
    """Run the program with a bootstrap that names the server; return what it prints."""
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": server.address,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": NODE},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        "xds:///greeter",
        METHOD,
        patience,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.stdin.close()
        await ended(process, "the gRPC client")


def greeter(*ports: int, kind: str = "greeter") -> list[Message]:
    """Return what a gRPC client needs to find the service on these ports of loopback.

    Args:
        ports: of the backends.
        kind: how the names begin of all that the listener leads to.
    """
    manager = {
        "@type": TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "rds": {"route_config_name": f"{kind}-routes", "config_source": OVER_ADS},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": TYPE + "http.router.v3.Router"}}
        ],
    }
    route = {"match": {"prefix": ""}, "route": {"cluster": f"{kind}-cluster"}}
    routes = {
        "name": f"{kind}-routes",
        "virtual_hosts": [{"name": "greeter", "domains": ["*"], "routes": [route]}],
    }
    cluster = {
        "name": f"{kind}-cluster",
        "type": "EDS",
        "eds_cluster_config": {"eds_config": OVER_ADS},
    }
    listener = {"name": "greeter", "api_listener": {"api_listener": manager}}
    return [
        ParseDict(listener, listener_pb2.Listener()),
        ParseDict(routes, route_pb2.RouteConfiguration()),
        ParseDict(cluster, cluster_pb2.Cluster()),
        endpoints(*ports, kind=kind),
    ]


def endpoints(*ports: int, kind: str) -> Message:
    """Return the endpoints of the service."""
    members: list[dict[str, Any]] = [
        {
            "health_status": "HEALTHY",
            "endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}
            },
        }
        for port in ports
    ]
    locality = {
        "locality": {"region": "here"},
        "load_balancing_weight": 1,
        "lb_endpoints": members,
    }
    assignment = {"cluster_name": f"{kind}-cluster", "endpoints": [locality]}
    message: Message = ParseDict(assignment, endpoint_pb2.ClusterLoadAssignment())
    return message


async def printed(lines: asyncio.StreamReader) -> str:
    """Return the next line that the program prints."""
    async with asyncio.timeout(3 * PATIENCE):
        return (await lines.readline()).decode().strip()


@pytest.mark.parametrize("known", [True, False], ids=["known-before", "known-after"])
async def test_grpcs_own_client_finds_a_backend_and_follows_it(*, known: bool) -> None:
    """A channel to ``xds:///greeter`` calls the backend that LDS, RDS, CDS and EDS lead to.

    It moves with the endpoint and no call fails, whether the resources were there before the client
    asked or came later (W8).
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ResourceServer())
        ports = [await stack.enter_async_context(backend(name)) for name in ("blue", "green")]
        if known:
            server.set_resources(NODE, greeter(ports[0]))
        lines = await stack.enter_async_context(client_of(server))
        if not known:
            await eventually(lambda: bool(server._nodes.streams(NODE)), "the client asked")
            server.set_resources(NODE, greeter(ports[0]))

        assert await printed(lines) == "blue"

        server.set_resources(NODE, greeter(ports[1]))

        assert await printed(lines) == "green"
        await eventually(
            lambda: {each.status for each in server.deliveries(NODE)} == {ConfigStatus.SYNCED},
            "the client accepted every resource",
        )
        assert len(server.deliveries(NODE)) == 4


async def test_no_call_of_grpcs_own_client_fails_when_its_listener_names_other_routes() -> None:
    """O1: listener, routes, cluster and endpoints are all replaced in one change.

    The client asks for the new routes only after it accepted the listener, and calls by the old
    ones until then; so the cluster of these is withdrawn once it has accepted the new ones.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ResourceServer())
        ports = [await stack.enter_async_context(backend(name)) for name in ("blue", "green")]
        server.set_resources(NODE, greeter(ports[0]))
        lines = await stack.enter_async_context(client_of(server, "impatient"))

        assert await printed(lines) == "blue"

        watcher = Watcher()
        server.observe(watcher)
        server.set_resources(NODE, greeter(ports[1], kind="other"))

        assert await printed(lines) == "green"
        order = [reply.type_url for reply in watcher.replies]
        assert order.index(LISTENER) < order.index(ROUTE) < order.index(CLUSTER)
