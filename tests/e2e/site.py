"""A control plane with real Envoys that enrolled with it, and an operator who uses its API.

The rule of this module: instances enrol by token and connect by mTLS as any sidecar's Envoy does;
callers are instances that are known by their address and have no Envoy. Every address is unique on
the machine, since 61443 is a fixed port.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
    network_policy_pb2,
    network_policy_pb2_grpc,
    progress_pb2,
    route_pb2,
    route_pb2_grpc,
    trust_pb2,
    trust_pb2_grpc,
)
from control_plane.app import ControlPlane
from control_plane.app.core import Core
from control_plane.ca import DEFAULT_TRUST_DOMAIN, make_csr, new_key_pair
from control_plane.envoy import bootstrap
from control_plane.envoy.bootstrap import AdsVariant, XdsIdentity
from control_plane.model.entities import InstanceStatus
from control_plane.names import SERVER_NAME, InstanceGuid
from control_plane.settings import Settings, SocketAddress
from tests.envoy import apps, tls_client
from tests.envoy.apps import App, Serve
from tests.envoy.harness import C2C_PORT, DEADLINE, Envoy, start_envoy, unique_address, until
from tests.faults.plane import Plane

DOMAIN = "apps.internal"
CALLER = "caller"
"""The app that may call others, where a test says no other."""

COMMITTED, ACKED, SERVED = (
    progress_pb2.WAIT_COMMITTED,
    progress_pb2.WAIT_ACKED,
    progress_pb2.WAIT_SERVED,
)
READY = InstanceStatus.READY
ANY_PORT = SocketAddress("127.0.0.1", 0)

Render = Callable[["Ticket", Path], str]
"""Writes an Envoy's bootstrap, given who it is and the path for its admin socket."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an instance has after it enrolled.

    Attributes:
        xds: where its Envoy connects to.
        identity: the files by which the two know each other.
    """

    guid: str
    address: str
    app_address: str
    xds: SocketAddress
    identity: XdsIdentity


def over_ads(variant: AdsVariant) -> Render:
    """Return what writes the bootstrap that ``c2c bootstrap`` prints."""

    def render(ticket: Ticket, admin_socket: Path) -> str:
        return bootstrap.render(
            ticket.guid,
            xds_address=ticket.xds.host,
            xds_port=ticket.xds.port,
            admin_socket=admin_socket,
            tls=ticket.identity,
            ads=variant,
        )

    return render


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance with a real Envoy in front of its app."""

    ticket: Ticket
    app: App
    envoy: Envoy
    trust: bytes

    @property
    def guid(self) -> str:
        """Its identity, which is the first name in its certificates."""
        return self.ticket.guid

    @property
    def address(self) -> str:
        """Where other containers reach it."""
        return self.ticket.address

    def connect(
        self,
        host: str,
        source: str | None,
        *,
        port: int = C2C_PORT,
        alpn: tuple[str, ...] = (),
    ) -> contextlib.AbstractAsyncContextManager[tls_client.Connection]:
        """Connect from an address, verifying the name (the GUID if it is "") in full."""
        context = tls_client.context(self.trust, alpn=alpn)
        return tls_client.connect(
            self.address, _full(host) if host else self.guid, context, port=port, source=source
        )

    async def get(self, host: str, source: str | None, *, port: int = C2C_PORT) -> int:
        """Send a request over a new connection; return its status."""
        async with self.connect(host, source, port=port) as connection:
            return (await connection.request(headers=["Connection: close"])).status

    async def serves(self) -> tls_client.Leaf:
        """Return the certificate that it shows to itself, whoever else may connect."""
        async with self.connect("", self.address) as connection:
            return connection.leaf


class Site:
    """The operator's side: what may be asked of a running control plane."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        directory: Path,
        trust: bytes,
        plane: ControlPlane | None = None,
    ) -> None:
        """Use a control plane.

        Args:
            channel: to its admin socket.
            directory: for the files of instances.
            trust: the CA that clients trust.
            plane: the control plane itself, if it runs in this process.
        """
        self.trust = trust
        self._channel = channel
        self._directory = directory
        self._plane = plane

    @property
    def core(self) -> Core:
        """What runs inside, for a test that has to look or to break something there."""
        assert self._plane is not None, "the control plane is another process"
        return self._plane.core

    async def create_app(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - of the request
        """Create an app, unless there is such a one."""
        stub = app_pb2_grpc.AppServiceStub(self._channel)
        await stub.CreateApp(app_pb2.CreateAppRequest(name=name, **fields))

    async def update_app(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - of the request
        """Change an app, and wait until its instances have it; it needs a route."""
        stub = app_pb2_grpc.AppServiceStub(self._channel)
        await stub.UpdateApp(app_pb2.UpdateAppRequest(app=name, **fields))
        await self.settled(name)

    async def delete_app(self, name: str) -> None:
        """Delete an app and all that belongs to it."""
        stub = app_pb2_grpc.AppServiceStub(self._channel)
        await stub.DeleteApp(app_pb2.DeleteAppRequest(app=name))

    async def settled(self, app: str) -> None:
        """Wait until every instance of an app has all that was committed so far."""
        (host, *_) = [each.partition(".")[0] for each in sorted(await self.routes(app))]
        answer = await self.map(app, host, wait=ACKED)
        assert answer.already
        assert answer.complete, answer.behind

    async def map(
        self, app: str, host: str, *, wait: int = SERVED, timeout: float = DEADLINE
    ) -> route_pb2.MapRouteResponse:
        """Map a route, and wait until every instance serves it."""
        request = route_pb2.MapRouteRequest(
            app=app,
            hostname=host,
            wait=progress_pb2.Wait.ValueType(wait),
            timeout=_duration(timeout),
        )
        return await route_pb2_grpc.RouteServiceStub(self._channel).MapRoute(request)

    async def unmap(
        self, app: str, host: str, *, wait: int = SERVED
    ) -> route_pb2.UnmapRouteResponse:
        """Unmap a route, and wait until no instance serves it."""
        request = route_pb2.UnmapRouteRequest(
            app=app,
            hostname=host,
            wait=progress_pb2.Wait.ValueType(wait),
            timeout=_duration(DEADLINE),
        )
        return await route_pb2_grpc.RouteServiceStub(self._channel).UnmapRoute(request)

    async def allow(
        self,
        source: str,
        destination: str,
        ports: str = str(C2C_PORT),
        *,
        protocol: str = "tcp",
        wait: int = ACKED,
    ) -> None:
        """Let an app connect to another, on a port or a range such as ``8080-8090``."""
        stub = network_policy_pb2_grpc.NetworkPolicyServiceStub(self._channel)
        answer = await stub.AddNetworkPolicies(
            network_policy_pb2.AddNetworkPoliciesRequest(
                policies=[_policy(source, destination, ports, protocol)],
                wait=progress_pb2.Wait.ValueType(wait),
                timeout=_duration(DEADLINE),
            )
        )
        assert answer.complete, answer.behind

    async def forbid(
        self,
        source: str,
        destination: str,
        ports: str = str(C2C_PORT),
        *,
        protocol: str = "tcp",
        wait: int = ACKED,
    ) -> None:
        """Take that back."""
        stub = network_policy_pb2_grpc.NetworkPolicyServiceStub(self._channel)
        answer = await stub.RemoveNetworkPolicies(
            network_policy_pb2.RemoveNetworkPoliciesRequest(
                policies=[_policy(source, destination, ports, protocol)],
                wait=progress_pb2.Wait.ValueType(wait),
                timeout=_duration(DEADLINE),
            )
        )
        assert answer.complete, answer.behind

    async def alarms(self) -> Sequence[str]:
        """Return what operators are told that everybody should know."""
        stub = inspection_pb2_grpc.InspectionServiceStub(self._channel)
        return (await stub.GetStatus(inspection_pb2.GetStatusRequest())).alarms

    async def routes(self, app: str = "") -> set[str]:
        """Return every route that is mapped, or those of an app."""
        stub = route_pb2_grpc.RouteServiceStub(self._channel)
        answer = await stub.ListRoutes(route_pb2.ListRoutesRequest(app=app))
        return {each.route for each in answer.routes}

    async def register(self, app: str, address: str = "") -> tuple[str, str]:
        """Make an instance known that has no Envoy; return its GUID and address."""
        answer = await instance_pb2_grpc.InstanceServiceStub(self._channel).RegisterInstance(
            instance_pb2.RegisterInstanceRequest(app=app, address=address or unique_address())
        )
        return answer.instance.guid, answer.instance.address

    async def remove(self, guid: str) -> None:
        """Remove an instance."""
        stub = instance_pb2_grpc.InstanceServiceStub(self._channel)
        await stub.RemoveInstance(instance_pb2.RemoveInstanceRequest(guid=guid))

    async def caller(
        self, *destinations: str, ports: str = str(C2C_PORT), address: str = ""
    ) -> str:
        """Return the address of a new instance of ``CALLER``, which may call these apps."""
        await self.create_app(CALLER)
        _, address = await self.register(CALLER, address)
        for destination in destinations:
            await self.allow(CALLER, destination, ports)
        return address

    async def enrol(self, app: str, address: str = "", app_address: str = "") -> Ticket:
        """Enrol an instance by token, as a sidecar does."""
        request = join_token_pb2.CreateJoinTokenRequest(
            app=app, address_range="::1/128" if ":" in address else "127.0.0.0/8"
        )
        token = await join_token_pb2_grpc.JoinTokenServiceStub(self._channel).CreateJoinToken(
            request
        )
        key = new_key_pair()
        credentials = grpc.ssl_channel_credentials(self.trust)
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]
        async with grpc.aio.secure_channel(token.server, credentials, options=options) as channel:
            enrolled = await enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll(
                enrollment_pb2.EnrollRequest(
                    token=token.token,
                    csr=make_csr(key),
                    address=address or unique_address(),
                    app_address=app_address,
                )
            )
        files = self._directory / enrolled.instance_guid
        files.mkdir()
        identity = XdsIdentity(
            files / "identity.json",
            files / "trust.json",
            f"spiffe://{DEFAULT_TRUST_DOMAIN}/control-plane",
        )
        identity.identity_file.write_text(
            bootstrap.identity_file(enrolled.certificate.decode(), key.private_pem().decode())
        )
        identity.trust_file.write_text(bootstrap.trust_file(enrolled.trust_bundle))
        host = token.server.rpartition(":")[0].strip("[]")
        xds = SocketAddress(host, enrolled.xds_port)
        return Ticket(enrolled.instance_guid, enrolled.address, app_address, xds, identity)

    @contextlib.asynccontextmanager
    async def start(
        self,
        app: str,
        running: App,
        *,
        render: Render | None = None,
        address: str = "",
        drain_time_s: int = 1,
        is_served: bool = True,
    ) -> AsyncIterator[Instance]:
        """Put an app that runs behind an Envoy until the block ends.

        Args:
            app: the name of the app.
            running: where it listens.
            render: writes the bootstrap; by default delta ADS.
            address: the instance's address; by default one that nobody has.
            drain_time_s: how long connections live on of whom a policy no longer lets in.
            is_served: wait until it shows a certificate.
        """
        ticket = await self.enrol(app, address, running.address)
        write = render or over_ads(AdsVariant.DELTA)
        async with self._envoy_of(ticket, running, write, drain_time_s) as instance:
            if is_served:
                await self.until_served(instance)
            yield instance

    @contextlib.asynccontextmanager
    async def restarted(self, instance: Instance) -> AsyncIterator[Instance]:
        """Start another Envoy for an instance whose Envoy has ended."""
        write = over_ads(AdsVariant.DELTA)
        async with self._envoy_of(instance.ticket, instance.app, write, 1) as again:
            await self.until_served(again)
            yield again

    @contextlib.asynccontextmanager
    async def _envoy_of(
        self, ticket: Ticket, running: App, write: Render, drain_time_s: int
    ) -> AsyncIterator[Instance]:
        async with start_envoy(
            lambda admin_socket: write(ticket, admin_socket), drain_time_s=drain_time_s
        ) as envoy:
            yield Instance(ticket, running, envoy, self.trust)

    @contextlib.asynccontextmanager
    async def run(
        self,
        app: str,
        serve: Serve | None = None,
        *,
        render: Render | None = None,
        **fields: Any,  # noqa: ANN401 - of the request
    ) -> AsyncIterator[Instance]:
        """Create an app that does this on 8080 (HTTP/1.1 by default), and start an instance."""
        address = unique_address(8080)
        async with apps.tcp_app(serve or apps.http1(), address=address, port=8080) as running:
            await self.create_app(app, **fields)
            async with self.start(app, running, render=render) as instance:
                yield instance

    async def until_served(self, instance: Instance) -> None:
        """Return once an instance shows a certificate, and is known to be ready."""

        async def is_served() -> bool:
            with contextlib.suppress(OSError):
                await instance.serves()
                return self._plane is None or self.status(instance.guid) is READY
            return False

        await until(is_served, what=f"{instance.address}:{C2C_PORT} shows a certificate")

    def status(self, guid: str) -> InstanceStatus:
        """Return where an instance is in its life."""
        return self.core.registry.state.instances[InstanceGuid(guid)].status


@contextlib.asynccontextmanager
async def site_of(plane: Plane, directory: Path) -> AsyncIterator[Site]:
    """Use a control plane in another process as an operator, until the block ends."""
    async with plane.operator() as channel:
        stub = trust_pb2_grpc.TrustServiceStub(channel)
        answer = await stub.GetTrustBundle(trust_pb2.GetTrustBundleRequest())
        yield Site(channel, directory, answer.trust_bundle.encode())


@contextlib.asynccontextmanager
async def site(directory: Path, **settings: Any) -> AsyncIterator[Site]:  # noqa: ANN401 - any setting
    """Run a control plane until the block ends."""
    options = {
        "data_dir": directory / "data",
        "xds_address": ANY_PORT,
        "enroll_address": ANY_PORT,
        "http_address": ANY_PORT,
        "drain_time": timedelta(milliseconds=100),
    }
    async with (
        ControlPlane(Settings(**{**options, **settings})) as plane,
        grpc.aio.insecure_channel(f"unix:{plane.admin_socket}") as channel,
    ):
        yield Site(channel, directory, plane.core.authority.trust_bundle_pem, plane)


def _policy(
    source: str, destination: str, ports: str, protocol: str
) -> network_policy_pb2.NetworkPolicy:
    start, _, end = ports.partition("-")
    return network_policy_pb2.NetworkPolicy(
        source=source,
        destination=destination,
        protocol=protocol,
        start_port=int(start),
        end_port=int(end or start),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _full(host: str) -> str:
    return host if "." in host and host.endswith(DOMAIN) else f"{host}.{DOMAIN}"
