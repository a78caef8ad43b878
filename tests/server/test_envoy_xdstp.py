"""Envoy asks for whole collections, and for endpoints by the authority in their name (xdstp)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from tests.envoy.harness import Envoy, start_envoy, unique_address, until
from tests.server.envoys import NODE, accepted, bootstrap, listener

AUTHORITY = "cp.test"
CLUSTERS = f"xdstp://{AUTHORITY}/envoy.config.cluster.v3.Cluster/"
LISTENERS = f"xdstp://{AUTHORITY}/envoy.config.listener.v3.Listener/"
ENDPOINTS = f"xdstp://{AUTHORITY}/envoy.config.endpoint.v3.ClusterLoadAssignment/"
CONTEXT = "?a=1&b=2"
STATIC = {"xds"}

SINGLE_NAMES = "envoy.reloadable_features.xdstp_based_config_singleton_subscriptions"
"""Without it Envoy 1.40 asks for no single resource by its authority."""


def with_collections(address: str, admin: Path) -> str:
    """Return a bootstrap that names its collections, and where each authority is."""
    fields = json.loads(bootstrap(address, "DELTA_GRPC", admin))
    dynamic = fields["dynamic_resources"]
    of_authority = {"authorities": [{"name": AUTHORITY}], "resource_api_version": "V3"}
    dynamic["cds_config"] = dynamic["lds_config"] = {**of_authority, "ads": {}}
    dynamic["cds_resources_locator"] = f"{CLUSTERS}web/*?b=2&a=1"
    dynamic["lds_resources_locator"] = f"{LISTENERS}web/*"
    stream = {**dynamic["ads_config"], "api_type": "AGGREGATED_DELTA_GRPC"}
    fields["config_sources"] = [{**of_authority, "api_config_source": stream}]
    layer = {"name": "single names", "static_layer": {SINGLE_NAMES: True}}
    fields["layered_runtime"] = {"layers": [layer]}
    return json.dumps(fields)


@asynccontextmanager
async def envoy_of(server: ResourceServer) -> AsyncIterator[Envoy]:
    """Run an Envoy that has what is in the collections."""
    async with start_envoy(lambda admin: with_collections(server.address, admin)) as envoy:
        await envoy.wait_live()
        yield envoy


def cluster(name: str, **fields: Any) -> Message:  # noqa: ANN401 - any field of the message
    """Return a cluster."""
    message: Message = ParseDict({"name": name, **fields}, cluster_pb2.Cluster())
    return message


async def has_clusters(envoy: Envoy, *names: str) -> None:
    """Return once the Envoy has these clusters and no others."""

    async def probe() -> bool:
        lines = (await envoy.admin("/clusters")).splitlines()
        has = {line.partition("::")[0] for line in lines if "::added_via_api::" in line}
        return has == {*names, *STATIC}

    await until(probe, what=f"Envoy has the clusters {names}")


async def test_an_envoy_has_what_is_in_its_collections() -> None:
    """E4, O1: it asks with sorted parameters, is sent the members, and hears of each change."""
    one, two, three = (f"{CLUSTERS}web/{name}{CONTEXT}" for name in ("one", "two", "three"))
    others = [
        cluster(name) for name in (f"{CLUSTERS}web/one", f"{CLUSTERS}web/deep/one{CONTEXT}", "one")
    ]
    routes = {"route_config": {"name": "none"}}
    entrance = listener(f"{LISTENERS}web/entrance", routes, at=(unique_address(), 8080))
    async with ResourceServer() as server:
        server.set_resources(NODE, [cluster(one), cluster(two), *others, entrance])
        async with envoy_of(server) as envoy:
            await has_clusters(envoy, one, two)
            assert await envoy.stat("listener_manager.total_listeners_active") == 1

            server.set_resources(NODE, [cluster(one), cluster(three), *others, entrance])
            await has_clusters(envoy, one, three)
            server.set_resources(NODE, others)
            await has_clusters(envoy)
            await envoy.wait_for(
                lambda stats: stats["listener_manager.total_listeners_active"] == 0,
                what="the listener is gone",
            )
            server.set_resources(NODE, [cluster(two), *others])
            await has_clusters(envoy, two)
            stats = await envoy.stats()

    assert [name for name in stats if name.endswith("update_rejected") and stats[name]] == []


async def test_an_envoy_is_not_held_up_by_an_empty_collection() -> None:
    """E4, W7: it is told by the name of the collection, and starts without what is not there."""
    async with ResourceServer() as server:
        server.set_resources(NODE, [cluster("one")])
        async with envoy_of(server) as envoy:
            await has_clusters(envoy)
            server.set_resources(NODE, [cluster(f"{CLUSTERS}web/one{CONTEXT}")])
            await has_clusters(envoy, f"{CLUSTERS}web/one{CONTEXT}")


async def test_an_envoy_takes_no_list_from_a_server() -> None:
    """E4: it does not start with one, as the library's document says; lists are files to it."""
    name = LISTENERS.replace("Listener/", "ListenerCollection/") + "web"

    def with_list(admin: Path) -> str:
        return with_collections("127.0.0.1:1", admin).replace(f"{LISTENERS}web/*", name)

    with pytest.raises(AssertionError, match="ended before it started") as failure:
        async with start_envoy(with_list):
            pass

    reason = f"xdstp:// type does not match envoy.config.listener.v3.Listener in {name}"
    assert reason in "".join(failure.value.__notes__)


async def test_an_envoy_asks_for_endpoints_by_their_authority() -> None:
    """E4, V6: over another stream, which its bootstrap gives to that authority."""
    name = f"{CLUSTERS}web/one{CONTEXT}"
    of_it = f"{ENDPOINTS}one?x=1&y=2"
    eds = {"type": "EDS", "eds_cluster_config": {"service_name": of_it}}

    def endpoints(port: int) -> Message:
        at = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
        members = [{"lb_endpoints": [{"endpoint": at}]}]
        fields = {"cluster_name": of_it, "endpoints": members}
        message: Message = ParseDict(fields, endpoint_pb2.ClusterLoadAssignment())
        return message

    async with ResourceServer() as server:
        server.set_resources(NODE, [cluster(name, **eds), endpoints(1000)])
        async with envoy_of(server) as envoy:
            for port in (1000, 1001):
                server.set_resources(NODE, [cluster(name, **eds), endpoints(port)])

                async def has_endpoint(port: int = port) -> bool:
                    return f"{name}::127.0.0.1:{port}::" in await envoy.admin("/clusters")

                await until(has_endpoint, what=f"Envoy has the endpoint at {port}")
            await accepted(server)
