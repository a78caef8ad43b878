"""A real control plane for real sidecars, and the operator who uses it.

The rule of this module: it can be stopped and started again on the same ports, and ends with the
``async with`` that began it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
    network_policy_pb2,
    network_policy_pb2_grpc,
    progress_pb2,
    route_pb2,
    route_pb2_grpc,
)
from control_plane.app import ControlPlane
from control_plane.settings import Settings, SocketAddress
from tests.envoy.harness import DEADLINE, unique_address
from tests.sidecar.process import Ticket

# Below the ports that Linux gives to clients (32768 and up), one of which could come in between,
# and each of them once. Suites that run at a time begin at different ones.
_FIRST_PORT, _PORTS = 20_000, 12_000
_turns = itertools.count(37 * os.getpid())

_PATIENCE = Duration(seconds=int(DEADLINE))


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody has, so that what listens there can be started again."""
    while True:
        port = _FIRST_PORT + next(_turns) % _PORTS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port


@dataclass(slots=True)
class Platform:
    """A control plane that can be stopped and started again, and its operator."""

    settings: Settings
    plane: ControlPlane | None = None

    @property
    def running(self) -> ControlPlane:
        """The control plane, which must run."""
        assert self.plane is not None, "the control plane does not run"
        return self.plane

    @property
    def trust_bundle(self) -> bytes:
        """What clients of instances trust."""
        return self.running.core.authority.trust_bundle_pem

    async def start(self) -> None:
        """Start the control plane, on the ports that it had before."""
        plane = ControlPlane(self.settings)
        await plane.__aenter__()
        self.plane = plane

    async def stop(self) -> None:
        """Stop it; streams are broken off."""
        if self.plane is not None:
            plane, self.plane = self.plane, None
            await plane.__aexit__(None, None, None)

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[grpc.aio.Channel]:
        """Connect as an operator."""
        async with grpc.aio.insecure_channel(f"unix:{self.running.admin_socket}") as channel:
            yield channel

    async def create_app(self, name: str, *, port: int = 8080, protocol: str = "") -> None:
        """Create an app."""
        async with self.operator() as channel:
            await app_pb2_grpc.AppServiceStub(channel).CreateApp(
                app_pb2.CreateAppRequest(name=name, ports=[port], protocol=protocol)
            )

    async def use_ports(self, app: str, *ports: int) -> None:
        """Have an app listen on these ports, of which 61443 leads to the first."""
        async with self.operator() as channel:
            await app_pb2_grpc.AppServiceStub(channel).UpdateApp(
                app_pb2.UpdateAppRequest(app=app, ports=ports, c2c_port=ports[0])
            )

    async def ticket(self, app: str, *, uses: int = 1) -> Ticket:
        """Create a join token, good for loopback addresses."""
        async with self.operator() as channel:
            made = await join_token_pb2_grpc.JoinTokenServiceStub(channel).CreateJoinToken(
                join_token_pb2.CreateJoinTokenRequest(
                    app=app, uses=uses, address_range="127.0.0.0/8"
                )
            )
        return Ticket(made.server, made.token, made.fingerprint)

    async def allow(self, source: str, destination: str) -> None:
        """Let an app talk to another on 61443."""
        policy = network_policy_pb2.NetworkPolicy(
            source=source, destination=destination, protocol="tcp", start_port=61443, end_port=61443
        )
        async with self.operator() as channel:
            await network_policy_pb2_grpc.NetworkPolicyServiceStub(channel).AddNetworkPolicies(
                network_policy_pb2.AddNetworkPoliciesRequest(policies=[policy])
            )

    async def map_route(
        self,
        app: str,
        hostname: str,
        *,
        wait: progress_pb2.Wait.ValueType = progress_pb2.WAIT_SERVED,
    ) -> bool:
        """Map a route, and tell whether it got that far in time with every instance."""
        request = route_pb2.MapRouteRequest(
            app=app, hostname=hostname, wait=wait, timeout=_PATIENCE
        )
        async with self.operator() as channel:
            return (await route_pb2_grpc.RouteServiceStub(channel).MapRoute(request)).complete

    async def unmap_route(
        self,
        app: str,
        hostname: str,
        *,
        wait: progress_pb2.Wait.ValueType = progress_pb2.WAIT_SERVED,
    ) -> bool:
        """Unmap a route, and tell likewise."""
        request = route_pb2.UnmapRouteRequest(
            app=app, hostname=hostname, wait=wait, timeout=_PATIENCE
        )
        async with self.operator() as channel:
            return (await route_pb2_grpc.RouteServiceStub(channel).UnmapRoute(request)).complete

    async def caller_of(self, app: str) -> str:
        """Return the address of an instance that may call an app."""
        address = unique_address()
        await self.create_app(f"caller-of-{app}")
        async with self.operator() as channel:
            await instance_pb2_grpc.InstanceServiceStub(channel).RegisterInstance(
                instance_pb2.RegisterInstanceRequest(app=f"caller-of-{app}", address=address)
            )
        await self.allow(f"caller-of-{app}", app)
        return address

    async def instances(self) -> Sequence[instance_pb2.Instance]:
        """List every instance."""
        async with self.operator() as channel:
            stub = instance_pb2_grpc.InstanceServiceStub(channel)
            return (await stub.ListInstances(instance_pb2.ListInstancesRequest())).instances

    async def instances_of(self, app: str) -> Sequence[instance_pb2.Instance]:
        """List the instances of an app."""
        return [each for each in await self.instances() if each.app == app]

    async def remove(self, instance: str) -> None:
        """Remove an instance for good."""
        async with self.operator() as channel:
            await instance_pb2_grpc.InstanceServiceStub(channel).RemoveInstance(
                instance_pb2.RemoveInstanceRequest(guid=instance)
            )


@contextlib.asynccontextmanager
async def platform(
    directory: Path, *, lifetime: timedelta = timedelta(hours=24), unproxied: bool = False
) -> AsyncIterator[Platform]:
    """Run a control plane until the block ends."""
    settings = Settings(
        data_dir=directory / "control-plane",
        xds_address=SocketAddress("127.0.0.1", free_port()),
        enroll_address=SocketAddress("127.0.0.1", free_port()),
        http_address=SocketAddress("127.0.0.1", free_port()),
        certificate_lifetime=lifetime,
        unproxied_port_mappings=unproxied,
        drain_time=timedelta(milliseconds=200),
    )
    made = Platform(settings)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
