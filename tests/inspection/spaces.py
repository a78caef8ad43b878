"""A control plane with apps of one name in two spaces, and another app in a third."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from control_plane.api.v1 import app_pb2, app_pb2_grpc
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import unique_address
from tests.inspection.world import APP, C2C_SECRET
from tests.security.world import control_plane, enrol, stream
from tests.sidecar.platform import Platform

Place = tuple[str, str]
"""Org and space."""

HERE: Place = ("default", "default")
DEV: Place = ("acme", "dev")
TEST: Place = ("acme", "test")

APPS = {"b-here": (APP, *HERE), "b-dev": (APP, *DEV), "web-test": ("web", *TEST)}
"""GUIDs, and who they are."""


@asynccontextmanager
async def three_spaces(directory: Path) -> AsyncIterator[Platform]:
    """Run it until the block ends."""
    async with control_plane(directory) as cf, cf.operator() as channel:
        for guid, (name, org, space) in APPS.items():
            await app_pb2_grpc.AppServiceStub(channel).CreateApp(
                app_pb2.CreateAppRequest(guid=guid, name=name, org=org, space=space)
            )
        yield cf


@asynccontextmanager
async def with_instances(cf: Platform) -> AsyncIterator[None]:
    """Have an instance of each app connected until the block ends, which has its certificates."""
    async with AsyncExitStack() as stack:
        for guid in APPS:
            holder = await enrol(cf, guid, unique_address())
            client = await stack.enter_async_context(stream(cf, holder))
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
        yield
