"""A stage for stories: the demo's own world, on addresses that no other test uses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from control_plane.demo.client import Answer, get, resolve
from control_plane.demo.places import CALLER, DOMAIN, SERVER_APP, Place
from control_plane.demo.world import World
from tests.envoy.harness import unique_address

READY_SECONDS = 40.0


def place(app: str, label: str) -> Place:
    """Return a place for an instance."""
    return Place(app, label, unique_address(), unique_address())


class Stage:
    """A world with one caller, and what it sees."""

    def __init__(self, world: World, caller: Place, servers: list[Place]) -> None:
        """Look at this world with the eyes of the caller."""
        self.world = world
        self.caller = caller
        self.servers = servers
        self.trust: ssl.SSLContext

    async def resolve(self, host: str) -> tuple[str, ...]:
        """Ask the caller's resolver."""
        return await resolve(f"{host}.{DOMAIN}", self.caller.address)

    async def get(self, host: str, address: str = "") -> Answer:
        """Send a request from the caller, verified in full."""
        return await get(f"{host}.{DOMAIN}", self.trust, address, self.caller.address)

    async def add(self, *places: Place) -> None:
        """Start more instances, and wait until they are ready."""
        await asyncio.gather(*(self.world.start_sidecar(each) for each in places))
        await self.world.ready(READY_SECONDS)
        self.servers.extend(places)

    async def until_served(self, host: str, seconds: float = 15.0) -> Answer:
        """Return the first answer, from an instance that is about to come back."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(OSError):
                    return await self.get(host)
                await asyncio.sleep(0.05)

    async def until_resolved(self, host: str, addresses: set[str], seconds: float = 20.0) -> None:
        """Return once the caller's resolver answers exactly these addresses."""
        async with asyncio.timeout(seconds):
            while set(await self.resolve(host)) != addresses:  # noqa: ASYNC110 - it asks a server
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(directory: Path, servers: int = 1) -> AsyncIterator[Stage]:
    """Set up app-a with one instance, and app-b with some, which app-a may reach."""
    caller = place(CALLER.app, "app-a/0")
    places = [place(SERVER_APP, f"app-b/{index}") for index in range(servers)]
    async with World(directory) as world:
        await world.create_app(CALLER.app)
        await world.create_app(SERVER_APP)
        await world.allow()
        set_up = Stage(world, caller, [])
        await set_up.add(caller)
        await set_up.add(*places)
        set_up.servers = places
        set_up.trust = ssl.create_default_context(cadata=await world.trust_bundle())
        yield set_up
