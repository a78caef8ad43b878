"""Envoy as a client of the library, with every type that refers to another over one stream."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.route.v3 import route_pb2, scoped_route_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.events import Unsubscribed
from control_plane.xds.resource_type import ROUTE, SCOPED_ROUTE
from tests.envoy.harness import C2C_PORT, Envoy, start_envoy, unique_address, until
from tests.server.documents import documented_bootstrap, serving
from tests.server.envoys import NODE, OVER_ADS, accepted, envoy_of, listener
from tests.server.watching import Watcher
from tests.waiting import eventually

SCOPED = {
    "scoped_routes": {
        "name": "scopes",
        "scope_key_builder": {
            "fragments": [{"header_value_extractor": {"name": "x-scope", "index": 0}}]
        },
        "rds_config_source": OVER_ADS,
        "scoped_rds": {"scoped_rds_config_source": OVER_ADS},
    }
}


def cluster(name: str, *, timeout: str = "5s", service: str = "") -> Message:
    """Return a cluster whose endpoints come over ADS, by its own name or another."""
    fields = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": OVER_ADS, "service_name": service},
    }
    message: Message = ParseDict(fields, cluster_pb2.Cluster())
    return message


def endpoints(name: str) -> Message:
    """Return the endpoints of a cluster."""
    at = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}}
    fields = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": at}]}]}
    message: Message = ParseDict(fields, endpoint_pb2.ClusterLoadAssignment())
    return message


def routes(name: str) -> Message:
    """Return the routes of a listener, to the cluster of the same name."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": name}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    fields = {"name": name, "virtual_hosts": hosts}
    message: Message = ParseDict(fields, route_pb2.RouteConfiguration())
    return message


def scope(name: str, key: str, route_configuration: str) -> Message:
    """Return a scope: which routes are for requests with this key."""
    fields = {
        "name": name,
        "route_configuration_name": route_configuration,
        "key": {"fragments": [{"string_key": key}]},
    }
    message: Message = ParseDict(fields, scoped_route_pb2.ScopedRouteConfiguration())
    return message


def service(name: str, *, timeout: str = "5s") -> list[Message]:
    """Return all that an Envoy needs to lead to one service."""
    return [cluster(name, timeout=timeout), endpoints(name), listener(name), routes(name)]


async def at_work(envoy: Envoy, services: int) -> None:
    """Return once the Envoy has so many services, and nothing of them warms."""
    await envoy.wait_for(
        lambda stats: (
            stats["cluster_manager.warming_clusters"] == 0
            and stats["cluster_manager.active_clusters"] == 1 + services
            and stats["listener_manager.total_listeners_active"] == services
        ),
        what="clusters and listeners are at work",
    )


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_a_cluster_that_warms_is_sent_its_endpoints(api_type: str) -> None:
    """O1, O2: an Envoy at work takes a new cluster, a changed one and the end of one at once.

    It ACKs no cluster before it was sent the endpoints, or waited 15 s for them, which is longer
    than this test waits; so endpoints wait for no ACK.
    """
    async with ResourceServer() as server:
        server.set_resources(NODE, service("a"))
        async with envoy_of(server, api_type) as envoy:
            await accepted(server)
            for resources in (
                [*service("a"), *service("b")],
                [*service("a", timeout="6s"), *service("b", timeout="6s")],
                service("b", timeout="6s"),
            ):
                server.set_resources(NODE, resources)
                await accepted(server)
                await at_work(envoy, len(resources) // len(service("")))
            stats = await envoy.stats()

        assert [name for name in stats if name.endswith("update_rejected") and stats[name]] == []


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_a_listener_takes_the_address_of_the_one_before(api_type: str) -> None:
    """O1: an Envoy that is told of both at once refuses neither, so the port is open all the time.

    Otherwise it refuses the new one ("has duplicate address") and is without any for a second.
    """
    at = unique_address(), C2C_PORT

    def all_of(name: str) -> list[Message]:
        return [cluster(name), endpoints(name), routes(name), listener(name, at=at)]

    async with ResourceServer() as server:
        server.set_resources(NODE, all_of("a"))
        async with envoy_of(server, api_type) as envoy:
            await accepted(server)
            server.set_resources(NODE, all_of("b"))
            await accepted(server)
            await at_work(envoy, 1)

            assert await envoy.stat("listener_manager.lds.update_rejected") == 0


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_a_cluster_is_sent_its_endpoints_though_others_have_its_name(api_type: str) -> None:
    """O2: an Envoy waits for those that the cluster names, and has none after 15 s."""
    others = [cluster("b", service="a"), endpoints("a"), endpoints("b")]
    async with ResourceServer() as server:
        server.set_resources(NODE, [cluster("a", service="b"), *others])
        async with envoy_of(server, api_type) as envoy:
            await accepted(server)
            server.set_resources(NODE, [cluster("a", service="b", timeout="6s"), *others])
            await accepted(server)
            await envoy.wait_for(
                lambda stats: (
                    stats["cluster_manager.warming_clusters"] == 0
                    and stats["cluster.a.membership_total"] == 1
                ),
                what="the cluster is at work",
            )


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_a_scope_stays_while_another_changes(api_type: str) -> None:
    """R3: an Envoy drops the scoped routes that a state-of-the-world response does not have."""
    base = [cluster("a"), endpoints("a"), listener("a", SCOPED), routes("a")]
    one, two, other = scope("1", "one", "a"), scope("2", "two", "a"), scope("1", "other", "a")
    async with ResourceServer() as server:
        server.set_resources(NODE, [*base, one, two])
        async with envoy_of(server, api_type) as envoy:
            await until(lambda: has_scopes(envoy, "one", "two"), what="both scopes are there")
            server.set_resources(NODE, [*base, other, two])
            await until(lambda: has_scopes(envoy, "other", "two"), what="one scope changed")
            server.set_resources(NODE, [*base, two])
            await until(lambda: has_scopes(envoy, "two"), what="one scope is gone")
            await accepted(server)


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_scopes_that_no_listener_uses_go_and_come_back(api_type: str) -> None:
    """O1: an Envoy without a listener that has scopes does not answer that the last one is gone.

    Its clusters and listeners can be withdrawn all the same, and the next listener has its scopes
    before Envoy gives up waiting for them.
    """
    base = [cluster("a"), endpoints("a"), routes("a"), listener("a", SCOPED)]
    plain = [cluster("a"), endpoints("a"), listener("a", {"route_config": {"name": "its own"}})]
    one = scope("1", "one", "a")
    async with ResourceServer() as server:
        watcher = Watcher()
        server.observe(watcher)
        server.set_resources(NODE, [*base, one])
        async with envoy_of(server, api_type) as envoy:
            await until(lambda: has_scopes(envoy, "one"), what="the scope is there")
            await accepted(server)
            server.set_resources(NODE, [*plain, routes("a"), one])
            await eventually(
                lambda: Unsubscribed(ROUTE, frozenset({"a"})) in watcher.events,
                "the listener that had scopes is gone",
            )
            server.set_resources(NODE, plain)
            await eventually(
                lambda: watcher.replies[-1].type_url == SCOPED_ROUTE,
                "the scope is withdrawn",
            )
            server.set_resources(NODE, [])
            await at_work(envoy, 0)
            server.set_resources(NODE, [*base, one])
            await until(lambda: has_scopes(envoy, "one"), what="the scope is back", timeout=10.0)
            await at_work(envoy, 1)
            await accepted(server)


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_scopes_are_there_for_the_next_listener_that_uses_them(api_type: str) -> None:
    """O2: an Envoy waits for them up to 15 s, and has none then.

    In state of the world it asks with the request that it sent before, by delta not at all.
    """
    base = [cluster("a"), endpoints("a"), routes("a"), scope("1", "one", "a")]
    scoped = listener("a", SCOPED)
    plain = listener("a", {"route_config": {"name": "its own"}})
    async with ResourceServer() as server:
        watcher = Watcher()
        server.observe(watcher)
        server.set_resources(NODE, [*base, scoped])
        async with envoy_of(server, api_type) as envoy:
            await until(lambda: has_scopes(envoy, "one"), what="the scope is there")
            await accepted(server)
            server.set_resources(NODE, [*base, plain])
            await eventually(
                lambda: Unsubscribed(ROUTE, frozenset({"a"})) in watcher.events,
                "the listener that had scopes is gone",
            )
            server.set_resources(NODE, [*base, scoped])
            await until(lambda: has_scopes(envoy, "one"), what="the scope is back", timeout=10.0)
            await at_work(envoy, 1)
            await accepted(server)


async def has_scopes(envoy: Envoy, *keys: str) -> bool:
    """Tell whether these are the keys for which the Envoy has routes."""
    found = [
        scope["key"]["fragments"][0]["string_key"]
        for dump in await envoy.config_dump()
        for each in dump.get("dynamic_scoped_route_configs", [])
        for scope in each.get("scoped_route_configs", [])
    ]
    return sorted(found) == sorted(keys)


async def test_the_documents_envoy_has_what_the_documents_server_sets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bootstrap of the document, but for its addresses, is all that an Envoy needs."""
    async with serving("def endpoints(", "serving on ", capsys) as address:
        port = address.rpartition(":")[2]
        bootstrap = documented_bootstrap().replace("18000", port)
        socket = "socket_address: {address: 127.0.0.1, port_value: 9901}"
        assert socket in bootstrap
        async with start_envoy(
            lambda admin: bootstrap.replace(socket, f"pipe: {{path: {admin}}}")
        ) as envoy:

            async def probe() -> bool:
                return "web::10.0.0.1:80" in await envoy.admin("/clusters")

            await until(probe, what="Envoy has the cluster and its endpoint")
