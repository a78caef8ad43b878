"""An app with one instance on a real Envoy, and an operator who looks at it.

The rule of this module: it asks the operator's API, over the operator's socket, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

from control_plane.api.v1 import (
    inspection_pb2,
    inspection_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
    sidecar_pb2,
    sidecar_pb2_grpc,
)
from control_plane.clock import Clock
from tests.envoy.harness import Envoy, unique_address, until
from tests.security.envoys import envoy_of
from tests.security.holders import Holder
from tests.security.world import control_plane, enrol
from tests.sidecar.platform import Platform

APP = "app-b"
NAME = "app-b.apps.internal"
C2C_SECRET = "c2c-cert-and-key"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who looks."""

    channel: grpc.aio.Channel

    async def statuses(
        self, *, app: str = "", instance_guid: str = "", resources: bool = False
    ) -> Sequence[inspection_pb2.InstanceStatus]:
        """Return the status of every instance, of those of an app, or of one."""
        stub = inspection_pb2_grpc.InspectionServiceStub(self.channel)
        asked = inspection_pb2.GetStatusRequest(
            app=app, instance_guid=instance_guid, resources=resources
        )
        return (await stub.GetStatus(asked)).instances

    async def certificates(self, app: str = "") -> Sequence[inspection_pb2.Certificate]:
        """Return every certificate, or those of an app."""
        stub = inspection_pb2_grpc.InspectionServiceStub(self.channel)
        request = inspection_pb2.ListCertificatesRequest(app=app)
        return (await stub.ListCertificates(request)).certificates

    async def why(self, source: str, destination: str) -> inspection_pb2.Chain:
        """Return the one chain from an app to another, or to a name."""
        stub = inspection_pb2_grpc.InspectionServiceStub(self.channel)
        request = inspection_pb2.ExplainRequest(source=source, destination=destination)
        (chain,) = (await stub.Explain(request)).chains
        return chain

    async def csds(
        self, request: csds_pb2.ClientStatusRequest | None = None
    ) -> csds_pb2.ClientStatusResponse:
        """Return what CSDS shows."""
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(self.channel)
        return await stub.FetchClientStatus(request or csds_pb2.ClientStatusRequest())

    @asynccontextmanager
    async def events(
        self, *kinds: str, app: str = "", in_space: tuple[str, str] | None = None
    ) -> AsyncIterator[Events]:
        """Watch what happens until the block ends, everywhere or in an org and space."""
        stub = inspection_pb2_grpc.InspectionServiceStub(self.channel)
        org, space = in_space or ("", "")
        request = inspection_pb2.WatchEventsRequest(
            app=app, kinds=kinds, org=org, space=space, in_space=in_space is not None
        )
        call = stub.WatchEvents(request)
        await call.initial_metadata()
        heard = Events()
        reading = asyncio.create_task(heard.read(call))
        try:
            yield heard
        finally:
            call.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@dataclass(slots=True)
class Events:
    """What was heard so far."""

    heard: list[inspection_pb2.Event] = field(default_factory=list)

    async def read(
        self,
        call: grpc.aio.UnaryStreamCall[inspection_pb2.WatchEventsRequest, inspection_pb2.Event],
    ) -> None:
        """Hear until the call ends."""
        async for event in call:
            self.heard.append(event)

    def kinds(self) -> list[str]:
        """Return the kinds of what was heard, in order."""
        return [each.kind for each in self.heard]

    async def until(self, kind: str, *, times: int = 1) -> inspection_pb2.Event:
        """Wait for an event of a kind, and return it."""

        async def probe() -> list[inspection_pb2.Event]:
            found = [each for each in self.heard if each.kind == kind]
            return found if len(found) >= times else []

        return (await until(probe, what=f"event {kind}; heard {self.kinds()}"))[-1]


@dataclass(frozen=True, slots=True)
class Scene:
    """An app with a route and one instance."""

    cf: Platform
    holder: Holder
    address: str
    operator: Operator
    directory: Path

    @asynccontextmanager
    async def envoy(self) -> AsyncIterator[Envoy]:
        """Run the instance's Envoy until the block ends."""
        async with envoy_of(self.cf, self.holder, self.directory / f"{next(_numbers)}") as armed:
            yield armed.envoy

    async def status(self) -> inspection_pb2.InstanceStatus:
        """Return the status of the instance."""
        (found,) = await self.operator.statuses(instance_guid=self.holder.guid, resources=True)
        return found

    async def until(
        self, holds: Callable[[inspection_pb2.InstanceStatus], bool], *, what: str
    ) -> inspection_pb2.InstanceStatus:
        """Wait until the status is as it should be, and return it."""
        last = inspection_pb2.InstanceStatus()

        async def probe() -> bool:
            last.CopyFrom(await self.status())
            return holds(last)

        try:
            await until(probe, what=what)
        except AssertionError as error:
            error.add_note(str(last))
            raise
        return last

    async def until_served(self) -> inspection_pb2.InstanceStatus:
        """Wait until everything is SYNCED and the certificate is served."""
        return await self.until(is_served, what="everything is SYNCED and served")

    async def map_route(self, hostname: str) -> None:
        """Map one more route, and wait for nothing."""
        await map_route(self.cf, hostname)

    async def report(self, **request: object) -> None:
        """Report as the instance's sidecar does."""
        asked = sidecar_pb2.ReportRequest(**request)  # type: ignore[arg-type]  # fields of a test
        async with self.holder.connect(self.cf.running.xds_address) as channel:
            await sidecar_pb2_grpc.SidecarServiceStub(channel).Report(asked)


@asynccontextmanager
async def scene(directory: Path, clock: Clock | None = None) -> AsyncIterator[Scene]:
    """Run a control plane until the block ends; its app has one route, and an instance."""
    async with control_plane(directory, clock) as cf, cf.operator() as channel:
        await cf.create_app(APP)
        await map_route(cf, APP)
        address = unique_address()
        holder = await enrol(cf, APP, address)
        yield Scene(cf, holder, address, Operator(channel), directory)


async def map_route(cf: Platform, hostname: str) -> None:
    """Map a route to the app, and wait for nothing."""
    async with cf.operator() as channel:
        await route_pb2_grpc.RouteServiceStub(channel).MapRoute(
            route_pb2.MapRouteRequest(app=APP, hostname=hostname)
        )


def type_of(status: inspection_pb2.InstanceStatus, short: str) -> inspection_pb2.TypeStatus:
    """Return how far one type is."""
    return next(each for each in status.types if each.type == short)


def words(status: inspection_pb2.InstanceStatus) -> dict[str, str]:
    """Return how far each type is, in one word each."""
    names = inspection_pb2.ConfigStatus.Name
    return {each.type: names(each.status).removeprefix("CONFIG_STATUS_") for each in status.types}


def is_synced(status: inspection_pb2.InstanceStatus) -> bool:
    """Tell whether an Envoy has everything.

    Without a resolver nobody asks for names, and without a policy nobody for filters.
    """
    asked = {short: word for short, word in words(status).items() if word != "NOT_ASKED"}
    return {"CDS", "LDS", "SDS"} <= asked.keys() and set(asked.values()) == {"SYNCED"}


def is_served(status: inspection_pb2.InstanceStatus) -> bool:
    """Tell whether an Envoy has everything, serves its certificate, and is known to be ready."""
    served = status.certificate == inspection_pb2.CERTIFICATE_STATE_SERVED
    return is_synced(status) and served and status.status == "ready"
