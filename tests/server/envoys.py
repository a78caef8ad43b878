"""Envoy as a client of the library over one stream: its bootstrap, and listeners for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from envoy.config.listener.v3 import listener_pb2

# The descriptors of what the listener carries in an Any.
from envoy.extensions.filters.http.on_demand.v3 import on_demand_pb2  # noqa: F401 - likewise
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - its registration
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401 - its registration
)
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.delivery import ConfigStatus
from tests.envoy.harness import Envoy, start_envoy
from tests.waiting import eventually

NODE = "envoy"
OVER_ADS = {"ads": {}, "resource_api_version": "V3"}
OVER_ITS_OWN = {
    "resource_api_version": "V3",
    "api_config_source": {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    },
}
"""A delta stream of one type, as ``vhds`` and ``leds_config`` may name it."""

FILTERS = "type.googleapis.com/envoy.extensions.filters."
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(address: str, api_type: str, admin: Path, features: Sequence[str] = ()) -> str:
    """Return the bootstrap of an Envoy with these features that asks this server for everything."""
    host, _, port = address.rpartition(":")
    at = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    http2 = {
        "@type": "type.googleapis.com/" + HTTP,
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    server = {
        "name": "xds",
        "typed_extension_protocol_options": {HTTP: http2},
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": at}]}],
        },
    }
    ads = {
        "api_type": api_type,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    }
    return json.dumps(
        {
            "node": {"id": NODE, "cluster": "tests", "client_features": [*features]},
            "admin": {"address": {"pipe": {"path": str(admin)}}},
            "dynamic_resources": {
                "ads_config": ads,
                "cds_config": OVER_ADS,
                "lds_config": OVER_ADS,
            },
            "static_resources": {"clusters": [server]},
        }
    )


@asynccontextmanager
async def envoy_of(
    server: ResourceServer, api_type: str, *, features: Sequence[str] = ()
) -> AsyncIterator[Envoy]:
    """Run an Envoy that has all that the server has for it."""
    async with start_envoy(
        lambda admin: bootstrap(server.address, api_type, admin, features)
    ) as envoy:
        await envoy.wait_live()
        yield envoy


def listener(
    name: str,
    routes: dict[str, Any] | None = None,
    *,
    at: tuple[str, int] = ("127.0.0.1", 0),
    filters: Sequence[str] = (),
) -> Message:
    """Return a listener whose routes come over ADS.

    Args:
        name: of the listener, and of its routes if nothing else is said of them.
        routes: where they come from.
        at: its address and port.
        filters: the HTTP filters before the router, by their messages.
    """
    manager: dict[str, Any] = {
        "@type": FILTERS + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        **(routes or {"rds": {"route_config_name": name, "config_source": OVER_ADS}}),
        "http_filters": [
            {"name": each, "typed_config": {"@type": FILTERS + "http." + each}}
            for each in (*filters, "router.v3.Router")
        ],
    }
    fields = {
        "name": name,
        "address": {"socket_address": {"address": at[0], "port_value": at[1]}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    message: Message = ParseDict(fields, listener_pb2.Listener())
    return message


async def accepted(server: ResourceServer) -> None:
    """Return once the Envoy accepted all that it should have."""

    def is_accepted() -> bool:
        found = server.deliveries(NODE)
        return bool(found) and {each.status for each in found} == {ConfigStatus.SYNCED}

    await eventually(is_accepted, "Envoy accepted everything")
