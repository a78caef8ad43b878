"""A control plane with a whole fleet of simulated sidecars connected to it.

The rule of this module: no measurement begins before the control plane has settled.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet import USUAL_SIZE, Fleet, prepare
from google.protobuf.duration_pb2 import Duration
from processes import Server, Talker, control_plane, talker

from control_plane.api.v1 import progress_pb2, route_pb2, route_pb2_grpc

UNLIMITED = ("--max-new-streams-per-second", "100000")
"""For measurements that are not about the admission of streams."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A control plane with all of a fleet connected to it."""

    fleet: Fleet
    server: Server
    crowd: Talker

    async def report(self) -> None:
        """Have every sidecar report what it serves from now on."""
        self.crowd.tell("report")
        await self.crowd.hear("reporting")
        await quiet(self.server)


@asynccontextmanager
async def connected(
    directory: Path, number: int, *, size: int = USUAL_SIZE
) -> AsyncIterator[Connected]:
    """Run a control plane and a fleet, which sends no reports yet, until the block ends."""
    fleet = await prepare(directory, number, size=size)
    async with (
        control_plane(fleet.data_dir, *UNLIMITED) as server,
        talker("sidecars.py", server.xds, fleet.file) as crowd,
    ):
        crowd.tell("connect", number)
        await crowd.hear("synced")
        await quiet(server)
        yield Connected(fleet, server, crowd)


async def map_everywhere(server: Server, apps: Iterable[str], host: str) -> None:
    """Map a route to each app, and wait until every instance has ACKed its certificate."""
    stub = route_pb2_grpc.RouteServiceStub(server.operator)

    async def one(app: str) -> None:
        answer = await stub.MapRoute(
            route_pb2.MapRouteRequest(
                app=app,
                hostname=f"{host}-{app}",
                wait=progress_pb2.WAIT_ACKED,
                timeout=Duration(seconds=120),
            )
        )
        if not answer.complete:
            raise RuntimeError(f"{len(answer.behind)} instances of {app} did not follow")

    await asyncio.gather(*map(one, apps))


async def quiet(server: Server) -> None:
    """Return once the server's CPU use no longer falls, so that only its constant work is left."""
    busy = math.inf
    while True:
        before = server.usage().cpu_seconds
        await asyncio.sleep(1.0)
        now = server.usage().cpu_seconds - before
        if now >= 0.8 * busy:
            return
        busy = now
