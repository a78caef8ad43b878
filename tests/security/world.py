"""A real control plane under attack, and somebody who did nothing wrong.

The rule of this module: attacks come over the wire, and beside each there is an instance whose
certificate must still rotate, in time and on the stream that it had before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
)
from control_plane.app import ControlPlane
from control_plane.ca import make_csr, new_key_pair, read_certificate
from control_plane.clock import Clock
from control_plane.model.entities import InstanceStatus
from control_plane.settings import Settings, SocketAddress
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.security.holders import Holder, nobody
from tests.sidecar.platform import Platform
from tests.sidecar.process import Ticket
from tests.xds_client import DeltaClient, Response

C2C_SECRET = "c2c-cert-and-key"

ROTATION_SECONDS = 2.0
"""How long the rotation of somebody else may take during an attack; alone it takes milliseconds."""

Status = tuple[grpc.StatusCode, str]


class ShiftedClock:
    """The machine's clock, some time ahead of itself or behind."""

    def __init__(self, shift: timedelta = timedelta()) -> None:
        """Start with a shift, which a test may change."""
        self.shift = shift

    def now(self) -> datetime:
        """Return the time, shifted."""
        return datetime.now(UTC) + self.shift

    def monotonic(self) -> float:
        """Return the machine's monotonic clock; gRPC's threads ask for it too."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for real."""
        await asyncio.sleep(seconds)


@asynccontextmanager
async def control_plane(
    directory: Path, clock: Clock | None = None, **settings: object
) -> AsyncIterator[Platform]:
    """Run a control plane on free ports until the block ends."""
    anywhere = SocketAddress("127.0.0.1", 0)
    chosen: dict[str, Any] = {
        "data_dir": directory / "control-plane",
        "xds_address": anywhere,
        "enroll_address": anywhere,
        "http_address": anywhere,
        "admin_address": anywhere,
        "drain_time": timedelta(milliseconds=200),
        **settings,
    }
    made = Settings(**chosen)
    cf = Platform(made)
    if clock is None:
        await cf.start()
    else:
        cf.plane = ControlPlane(made, clock)
        await cf.plane.__aenter__()
    try:
        yield cf
    finally:
        await cf.stop()


def xds_address(cf: Platform) -> SocketAddress:
    """Return where a control plane speaks xDS, in this process or in one of its own."""
    return cf.plane.xds_address if cf.plane is not None else cf.settings.xds_address


def enroll_address(cf: Platform) -> SocketAddress:
    """Return where a control plane enrols, likewise."""
    return cf.plane.enroll_address if cf.plane is not None else cf.settings.enroll_address


def http_address(cf: Platform) -> SocketAddress:
    """Return where a control plane serves its metrics, likewise."""
    return cf.plane.http_address if cf.plane is not None else cf.settings.http_address


async def ticket(cf: Platform, app: str, address_range: str, *, uses: int = 1) -> Ticket:
    """Create a join token, good for the source of a connection and for these addresses."""
    request = join_token_pb2.CreateJoinTokenRequest(app=app, address_range=address_range, uses=uses)
    async with cf.operator() as channel:
        made = await join_token_pb2_grpc.JoinTokenServiceStub(channel).CreateJoinToken(request)
    return Ticket(made.server, made.token, made.fingerprint)


async def enrol(cf: Platform, app: str, address: str = "", *, by: Ticket | None = None) -> Holder:
    """Enrol an instance as its sidecar does."""
    token = (by or await cf.ticket(app)).token
    key = new_key_pair()
    request = enrollment_pb2.EnrollRequest(token=token, csr=make_csr(key), address=address)
    async with nobody(cf).connect(enroll_address(cf)) as channel:
        answer = await enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request)
    return Holder(answer.instance_guid, key, answer.certificate, answer.trust_bundle.encode())


async def renew(
    cf: Platform, holder: Holder, address: str = "", *, via: SocketAddress | None = None
) -> Holder:
    """Renew the identity of an instance as its sidecar does."""
    key = new_key_pair()
    request = identity_pb2.RenewRequest(csr=make_csr(key), address=address)
    async with holder.connect(via or xds_address(cf)) as channel:
        answer = await identity_pb2_grpc.IdentityServiceStub(channel).Renew(request)
    return Holder(holder.guid, key, answer.certificate, answer.trust_bundle.encode())


@asynccontextmanager
async def stream(cf: Platform, holder: Holder) -> AsyncIterator[DeltaClient]:
    """Open an ADS stream on a connection of its own."""
    async with (
        holder.connect(xds_address(cf)) as channel,
        DeltaClient(channel, holder.guid) as client,
    ):
        yield client


async def refused_stream(cf: Platform, holder: Holder) -> Status:
    """Ask for a certificate on a new stream, and return the status by which it ends."""
    async with stream(cf, holder) as client:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await client.subscribe(SECRET, C2C_SECRET)
        return await client.status()


async def called(channel: grpc.aio.Channel, method: str, request: bytes = b"") -> bytes:
    """Call a method by its path, with bytes and for bytes."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await call(request)


async def refused(call: Awaitable[object]) -> Status:
    """Return the status by which a call fails, which it must."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def certificates_in(response: Response) -> list[bytes]:
    """Return the certificate chains in a response with Secrets."""
    secrets = [secret_pb2.Secret.FromString(each.resource.value) for each in response.resources]
    return [each.tls_certificate.certificate_chain.inline_bytes for each in secrets]


def facts(cf: Platform) -> object:
    """Return all that is registered, but for how instances are, which nobody asks to change."""
    state = cf.running.core.registry.state
    instances = [replace(each, status=InstanceStatus.GONE) for each in state.all_instances()]
    return dict(state.apps), instances, list(state.all_tokens())


def told(lines: Sequence[MutableMapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    """Return what was logged under a name."""
    return [each for each in lines if each["event"] == event]


@dataclass(slots=True)
class Bystander:
    """An instance that does nothing wrong, with one stream."""

    cf: Platform
    app: str
    holder: Holder
    client: DeltaClient
    rotations: int = 0

    async def rotates(self) -> None:
        """Have a route mapped, and receive the certificate that names it, in time."""
        self.rotations += 1
        hostname = f"{self.app}-{self.rotations}"
        await map_route(self.cf, self.app, hostname)
        async with asyncio.timeout(ROTATION_SECONDS):
            names: tuple[str, ...] = ()
            while f"{hostname}.apps.internal" not in names:
                response = await self.client.receive()
                await self.client.ack(response)
                (chain,) = certificates_in(response)
                names = read_certificate(chain).san.dns


@asynccontextmanager
async def bystander(
    cf: Platform, app: str = "bystander", *, port: int = 8080
) -> AsyncIterator[Bystander]:
    """Run an app whose only instance is connected, and must still be when the block ends."""
    await cf.create_app(app, port=port)
    holder = await enrol(cf, app, "127.0.0.9")
    async with stream(cf, holder) as client:
        await client.subscribe(SECRET, C2C_SECRET)
        await client.ack(await client.receive())
        there = Bystander(cf, app, holder, client)
        await there.rotates()
        yield there
        await there.rotates()


async def map_route(cf: Platform, app: str, hostname: str) -> None:
    """Map a route, and wait for nobody to serve it."""
    async with cf.operator() as channel:
        await route_pb2_grpc.RouteServiceStub(channel).MapRoute(
            route_pb2.MapRouteRequest(app=app, hostname=hostname)
        )


async def delete_app(cf: Platform, app: str) -> None:
    """Delete an app."""
    async with cf.operator() as channel:
        await app_pb2_grpc.AppServiceStub(channel).DeleteApp(app_pb2.DeleteAppRequest(app=app))


async def is_gone(cf: Platform, holder: Holder) -> None:
    """Wait until an instance has no stream any more."""

    async def probe() -> bool:
        return not cf.running.core.nodes.streams(holder.guid)

    await until(probe, what=f"instance {holder.guid} has no stream")
