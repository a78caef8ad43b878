"""What an Envoy says to content that it refused before and is sent again, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.route.v3 import route_pb2

# The descriptor of what a filter carries in an Any.
from envoy.extensions.filters.http.lua.v3 import lua_pb2  # noqa: F401 - its registration
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.events import Acked, Nacked, Unsubscribed
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import (
    ENDPOINT,
    EXTENSION_CONFIG,
    ROUTE,
    SECRET,
    AfterNack,
    ResourceType,
)
from tests.envoy.harness import start_envoy, unique_address
from tests.server.envoys import (
    FILTERS,
    NODE,
    OVER_ADS,
    accepted,
    bootstrap,
    envoy_of,
    listener,
)
from tests.server.test_envoy_warming import PORT, certificate, cluster
from tests.server.test_envoy_warming import listener as tls_listener
from tests.server.watching import Watcher
from tests.waiting import eventually

NAME = "a"
SCRIPT = FILTERS + "http.lua.v3.Lua"
API_TYPES = pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])


def resources(*, refused: TypeUrl) -> list[Message]:
    """Return a cluster with endpoints, and a listener with routes and a filter: one is bad."""
    nowhere = "nowhere" if refused == ROUTE else NAME
    route = {"match": {"prefix": "/"}, "route": {"cluster": nowhere}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    address = "no address" if refused == ENDPOINT else "127.0.0.1"
    at = {"address": {"socket_address": {"address": address, "port_value": 9}}}
    script = "not a script (" if refused == EXTENSION_CONFIG else "x = 1"
    fields: dict[type[Message], dict[str, object]] = {
        cluster_pb2.Cluster: {
            "name": NAME,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": OVER_ADS},
        },
        endpoint_pb2.ClusterLoadAssignment: {
            "cluster_name": NAME,
            "endpoints": [{"lb_endpoints": [{"endpoint": at}]}],
        },
        route_pb2.RouteConfiguration: {
            "name": NAME,
            "virtual_hosts": hosts,
            "validate_clusters": True,
        },
        extension_pb2.TypedExtensionConfig: {
            "name": NAME,
            "typed_config": {"@type": SCRIPT, "default_source_code": {"inline_string": script}},
        },
    }
    messages = [ParseDict(each, kind()) for kind, each in fields.items()]
    return [*messages, _with_a_filter(listener(NAME))]


def _with_a_filter(entrance: Any) -> Message:  # noqa: ANN401 - a listener, without stubs
    """Return the listener with a filter that comes over ADS."""
    manager = http_connection_manager_pb2.HttpConnectionManager()
    packed = entrance.filter_chains[0].filters[0].typed_config
    packed.Unpack(manager)
    discovery = {"config_source": OVER_ADS, "type_urls": [SCRIPT]}
    manager.http_filters.insert(
        0,
        ParseDict(
            {"name": NAME, "config_discovery": discovery},
            http_connection_manager_pb2.HttpFilter(),
        ),
    )
    packed.Pack(manager)
    there: Message = entrance
    return there


def answers(watcher: Watcher, url: TypeUrl) -> list[type]:
    """Return what was answered to responses with the resource of a type, in order."""
    return [
        type(event)
        for event in watcher.events
        if isinstance(event, Acked | Nacked) and event.type_url == url and NAME in event.versions
    ]


@API_TYPES
@pytest.mark.parametrize("url", [ROUTE, ENDPOINT], ids=["routes", "endpoints"])
async def test_an_envoy_refuses_again_what_it_refused(api_type: str, url: TypeUrl) -> None:
    """A7: so its ACK to a second attempt is true, and another process may be sent that too."""
    watcher = Watcher()
    async with ResourceServer() as server:
        server.observe(watcher)
        server.set_resources(NODE, resources(refused=url))
        async with start_envoy(lambda admin: bootstrap(server.address, api_type, admin)):
            await eventually(lambda: len(answers(watcher, url)) > 1, "Envoy answered twice")

    assert set(answers(watcher, url)) == {Nacked}


@API_TYPES
async def test_an_envoy_accepts_the_filter_that_it_refused_though_none_can_be_made(
    api_type: str,
) -> None:
    """A7: so no filter is tried again by default; where this fails, filters can be."""
    watcher, again = Watcher(), ResourceType(EXTENSION_CONFIG, after_nack=AfterNack.AFTER_A_WHILE)
    async with ResourceServer(types=[again]) as server:
        server.observe(watcher)
        server.set_resources(NODE, resources(refused=EXTENSION_CONFIG))
        async with start_envoy(lambda admin: bootstrap(server.address, api_type, admin)):
            await eventually(
                lambda: len(answers(watcher, EXTENSION_CONFIG)) > 1, "Envoy answered twice"
            )

    assert answers(watcher, EXTENSION_CONFIG) == [Nacked, Acked]


@API_TYPES
@pytest.mark.parametrize("had", [True, False], ids=["had", "new"])
async def test_an_envoy_refuses_again_the_secret_that_it_asks_for_anew(
    api_type: str, *, had: bool
) -> None:
    """A7, W9: it dropped all that it knew of it, with the last listener that named it."""
    watcher = Watcher()
    good, bad = certificate(NAME), certificate(NAME)
    bad.tls_certificate.private_key.CopyFrom(certificate("other").tls_certificate.private_key)
    others = [cluster(NAME, 9), tls_listener(unique_address(PORT), NAME, NAME)]
    async with ResourceServer() as server:
        server.observe(watcher)
        server.set_resources(NODE, [*others, good if had else bad])
        async with envoy_of(server, api_type):
            if had:
                await accepted(server)
            server.set_resources(NODE, [*others, bad])
            await eventually(lambda: Nacked in answers(watcher, SECRET), "Envoy refused it")
            server.set_resources(NODE, [bad])
            given_up = Unsubscribed(SECRET, frozenset({NAME}))
            await eventually(lambda: given_up in watcher.events, "Envoy gave it up")
            server.set_resources(NODE, [*others, bad])
            await eventually(
                lambda: len(answers(watcher, SECRET)) == had + 2, "Envoy answered again"
            )
            server.set_resources(NODE, [*others, good])
            await accepted(server)

    assert answers(watcher, SECRET) == [Acked] * had + [Nacked, Nacked, Acked]
