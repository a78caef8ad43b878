"""Envoy as a client of the services of each type: a stream for each resource, and no ADS."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import (
    secret_pb2,
    tls_pb2,  # noqa: F401 - the descriptor of what the cluster carries in an Any
)
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from tests.envoy.harness import start_envoy
from tests.server.envoys import NODE, accepted, bootstrap, listener
from tests.server.test_envoy_client import at_work, cluster, endpoints, routes
from tests.unit.ca.forge import made
from tests.waiting import eventually

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
SERVICES = 12
PER_SERVICE = 3
"""Streams that Envoy opens for each: one for endpoints, one for routes and one for a secret."""

SHARED = 3
"""Streams for clusters, listeners and the runtime."""


def by_itself(api_type: str) -> dict[str, Any]:
    """Return the source of resources that come on a stream of their own."""
    grpc = {"envoy_grpc": {"cluster_name": "xds"}}
    source = {"api_type": api_type, "transport_api_version": "V3", "grpc_services": [grpc]}
    return {"api_config_source": source, "resource_api_version": "V3"}


def bootstrap_without_ads(address: str, api_type: str, admin: Path) -> str:
    """Return the bootstrap of an Envoy that asks for each type by its own service."""
    fields = json.loads(bootstrap(address, api_type, admin))
    source = by_itself(api_type)
    fields["dynamic_resources"] = {"cds_config": source, "lds_config": source}
    layer = {"name": "runtime", "rtds_layer": {"name": "runtime", "rtds_config": source}}
    fields["layered_runtime"] = {"layers": [layer]}
    return json.dumps(fields)


def service(name: str, api_type: str) -> list[Message]:
    """Return all that leads to one service by TLS; none of it comes over ADS."""
    source = by_itself(api_type)
    trusted = {"validation_context_sds_secret_config": {"name": name, "sds_config": source}}
    tls = {"name": "tls", "typed_config": {"@type": TLS, "common_tls_context": trusted}}
    fields = {"eds_cluster_config": {"eds_config": source}, "transport_socket": tls}
    upstream = cluster_pb2.Cluster.FromString(cluster(name).SerializeToString())
    ParseDict(fields, upstream)
    trusted_ca = {"inline_string": made("CA").pem.decode()}
    secret = {"name": name, "validation_context": {"trusted_ca": trusted_ca}}
    rds = {"rds": {"route_config_name": name, "config_source": source}}
    return [
        upstream,
        endpoints(name),
        listener(name, rds),
        routes(name),
        ParseDict(secret, secret_pb2.Secret()),
    ]


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_has_a_stream_for_each_resource(api_type: str) -> None:
    """V1, V2, W14: one that asks each service by itself is served all of its many streams."""
    runtime = ParseDict({"name": "runtime", "layer": {"a.key": "7"}}, rtds_pb2.Runtime())
    resources = [runtime]
    for number in range(SERVICES):
        resources += service(f"service-{number}", api_type)
    async with ResourceServer() as server:
        server.set_resources(NODE, resources)
        boot = partial(bootstrap_without_ads, server.address, api_type)
        async with start_envoy(boot) as envoy:
            await eventually(
                lambda: len(server.deliveries(NODE)) == len(resources), "each was asked for"
            )
            await accepted(server)
            await at_work(envoy, SERVICES)

            assert len(server._nodes.streams(NODE)) == SHARED + SERVICES * PER_SERVICE
