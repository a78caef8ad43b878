"""Envoy polls the library over REST-JSON, and has no stream."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.envoy.apps import App, http1, plain, tcp_app
from tests.envoy.harness import Envoy, start_envoy, unique_address
from tests.server.envoys import NODE, bootstrap, listener
from tests.server.pairs import Pair
from tests.server.test_envoy_client import cluster, routes
from tests.server.test_envoy_vhds import PORT, says
from tests.server.test_tls import ByCertificate
from tests.server.watching import Watcher

OVER_REST = {
    "resource_api_version": "V3",
    "api_config_source": {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["xds"],
        "refresh_delay": "0.2s",
        "request_timeout": "20s",
    },
}
"""By itself Envoy waits a second for an answer, which may be too little beside other tests; then it
polls again, and is sent the same content once more."""

UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def polling(address: str, admin: Path, *, node: str = NODE, tls: Pair | None = None) -> str:
    """Return the bootstrap of an Envoy that polls for clusters and listeners."""
    fields = json.loads(bootstrap(address, "GRPC", admin))
    fields["node"]["id"] = node
    fields["dynamic_resources"] = {"cds_config": OVER_REST, "lds_config": OVER_REST}
    (upstream,) = fields["static_resources"]["clusters"]
    del upstream["typed_extension_protocol_options"]  # HTTP/1.1
    if tls is not None:
        own = {
            "certificate_chain": {"inline_string": tls.certificate.decode()},
            "private_key": {"inline_string": tls.key.decode()},
        }
        trusted = {"trusted_ca": {"inline_string": tls.certificate.decode()}}
        common = {"tls_certificates": [own], "validation_context": trusted}
        context = {"@type": UPSTREAM_TLS, "sni": "localhost", "common_tls_context": common}
        upstream["transport_socket"] = {"name": "tls", "typed_config": context}
    return json.dumps(fields)


def polled_cluster(name: str) -> Message:
    """Return a cluster whose endpoints are polled for."""
    message = cluster_pb2.Cluster.FromString(cluster(name).SerializeToString())
    polled: Message = ParseDict({"eds_cluster_config": {"eds_config": OVER_REST}}, message)
    return polled


def at(name: str, app: App) -> Message:
    """Return the endpoints of a cluster: an app."""
    where = {"address": {"socket_address": {"address": app.address, "port_value": app.port}}}
    fields = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": where}]}]}
    message: Message = ParseDict(fields, endpoint_pb2.ClusterLoadAssignment())
    return message


def entrance(name: str, address: str) -> Message:
    """Return a listener whose routes are polled for."""
    rds = {"rds": {"route_config_name": name, "config_source": OVER_REST}}
    return listener(name, rds, at=(address, PORT))


async def polled_again(envoy: Envoy, stat: str, times: int = 3) -> None:
    """Return once the Envoy polled for a type that many times more."""
    before = await envoy.stat(f"{stat}.update_attempt")
    await envoy.wait_for(
        lambda stats: stats[f"{stat}.update_attempt"] >= before + times,
        what=f"{stat} polls again",
        prefix=stat,
    )


async def test_an_envoy_that_polls_serves_and_follows() -> None:
    """V2, V5: clusters, endpoints, listeners and routes come over REST, once for each change."""
    address = unique_address(PORT)
    async with (
        ResourceServer() as server,
        server.rest() as polled_at,
        tcp_app(http1(plain(b"one"))) as one,
        tcp_app(http1(plain(b"two"))) as two,
    ):
        watcher = Watcher()
        server.observe(watcher)
        base = [polled_cluster("a"), entrance("a", address), routes("a")]
        server.set_resources(NODE, [*base, at("a", one)])
        async with start_envoy(partial(polling, polled_at)) as envoy:
            await envoy.wait_live()
            await says(address, "a.test", "one")
            await polled_again(envoy, "cluster_manager.cds")
            await polled_again(envoy, "cluster.a")
            server.set_resources(NODE, [*base, at("a", two)])
            await says(address, "a.test", "two")
            server.set_resources(NODE, [*base, at("a", two), polled_cluster("b"), at("b", one)])
            await envoy.wait_for(
                lambda stats: stats.get("cluster.b.membership_healthy", 0) == 1,
                what="another cluster has its endpoint",
            )
            server.set_resources(NODE, [*base, at("a", two)])
            await envoy.wait_for(
                lambda stats: stats["cluster_manager.cluster_removed"] == 1, what="it is gone again"
            )
            await polled_again(envoy, "listener_manager.lds")
            stats = await envoy.stats()

    sent = [each.type_url for each in watcher.replies]
    once_for_each_content = {CLUSTER: 3, ENDPOINT: 3, LISTENER: 1, ROUTE: 1}
    assert {url: sent.count(url) for url in sent} == once_for_each_content
    assert stats["cluster_manager.cds.update_success"] == 3
    assert stats["cluster.a.update_success"] == 2
    assert stats["listener_manager.lds.update_success"] == 1
    assert stats["cluster_manager.cds.update_attempt"] > 4
    for bad in ("update_failure", "update_rejected", "init_fetch_timeout"):
        assert [name for name in stats if name.endswith(bad) and stats[name]] == []


async def test_an_envoy_polls_with_its_certificate() -> None:
    """V5, K4: over mutual TLS an Envoy is let in as the node of its certificate, and no other."""
    pair = Pair.make()
    async with (
        ResourceServer(admission=ByCertificate()) as server,
        server.rest(tls=pair.server_context()) as polled_at,
    ):
        server.set_resources("*", [cluster_pb2.Cluster(name="c", type="STATIC")])
        async with start_envoy(partial(polling, polled_at, node="node-1", tls=pair)) as envoy:
            await envoy.wait_live()
            assert await envoy.stat("cluster_manager.cds.update_success") == 1
        async with start_envoy(partial(polling, polled_at, node="node-2", tls=pair)) as impostor:
            await impostor.wait_for(
                lambda stats: stats["cluster_manager.cds.update_failure"] > 0, what="it is refused"
            )
            assert await impostor.stat("cluster.xds.upstream_rq_403") > 0
            assert await impostor.stat("cluster_manager.cds.update_success") == 0
