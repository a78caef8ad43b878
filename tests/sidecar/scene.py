"""An app with a route and one instance, which most tests of this directory begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import unique_address
from tests.sidecar.world import Caller, Platform, Sidecar, platform, sidecar

NAME = "app-b.apps.internal"


@dataclass(frozen=True, slots=True)
class Scene:
    """An app with a route, the address of its only instance, and somebody who may call it."""

    cf: Platform
    address: str
    port: int
    caller: Caller
    directory: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What its sidecar is told besides server and token."""
        return ("--address", self.address, "--app-port", str(self.port))

    @asynccontextmanager
    async def instance(self, *options: str) -> AsyncIterator[Sidecar]:
        """Run the instance until the block ends."""
        ticket = await self.cf.ticket("app-b")
        async with sidecar(ticket, self.directory, *(options or self.options)) as running:
            yield running

    @asynccontextmanager
    async def instance_without_token(self, *options: str) -> AsyncIterator[Sidecar]:
        """Run the instance with what an earlier one left in its directory."""
        server = str(self.cf.settings.enroll_address)
        told = ("--server", server, *(options or self.options))
        async with sidecar(None, self.directory, *told) as running:
            yield running


@asynccontextmanager
async def scene(
    directory: Path, *, lifetime: timedelta = timedelta(hours=24)
) -> AsyncIterator[Scene]:
    """Run the control plane and the app until the block ends."""
    async with platform(directory, lifetime=lifetime) as cf, tcp_app(http1()) as app:
        await cf.create_app("app-b", port=app.port)
        await cf.map_route("app-b", "app-b")
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, NAME)
        yield Scene(cf, unique_address(), app.port, caller, directory / "sidecar")
