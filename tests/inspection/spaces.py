"""A control plane with apps of one name in two spaces, and another app in a third.

The rule of this module: each app has a route and one instance, which has its certificates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from control_plane.api.v1 import app_pb2, app_pb2_grpc, route_pb2, route_pb2_grpc
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import unique_address
from tests.inspection.world import APP, C2C_SECRET
from tests.security.world import control_plane, enrol, stream
from tests.sidecar.platform import Platform

HERE, DEV, TEST = ("default", "default"), ("acme", "dev"), ("acme", "test")
"""Org and space."""

APPS = {"b-here": (APP, *HERE), "b-dev": (APP, *DEV), "web-test": ("web", *TEST)}
"""GUIDs, and who they are."""


@asynccontextmanager
async def three_spaces(directory: Path) -> AsyncIterator[Platform]:
    """Run it until the block ends; the route of each app has its GUID as hostname."""
    async with AsyncExitStack() as stack:
        cf = await stack.enter_async_context(control_plane(directory))
        for guid, (name, org, space) in APPS.items():
            async with cf.operator() as channel:
                await app_pb2_grpc.AppServiceStub(channel).CreateApp(
                    app_pb2.CreateAppRequest(guid=guid, name=name, org=org, space=space)
                )
                await route_pb2_grpc.RouteServiceStub(channel).MapRoute(
                    route_pb2.MapRouteRequest(app=guid, hostname=guid)
                )
            holder = await enrol(cf, guid, unique_address())
            client = await stack.enter_async_context(stream(cf, holder))
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
        yield cf
