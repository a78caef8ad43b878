"""A real control plane and real sidecars with real Envoys, for the tests of this directory.

The rule of this module: a sidecar is a process of its own, started by the command line as people
start it, and what it logs is read as JSON. Everything ends with the ``async with`` that began it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

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
from tests.envoy import tls_client
from tests.envoy.harness import DEADLINE, Envoy, unique_address, until

C2C = Path(sys.executable).with_name("c2c")
"""The command, as it is installed beside this Python."""


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody has, so that what listens there can be started again."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an operator hands to a sidecar."""

    server: str
    token: str = field(repr=False)
    fingerprint: str


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

    async def map_route(self, app: str, hostname: str) -> bool:
        """Map a route, and tell whether it was served by every instance in time."""
        async with self.operator() as channel:
            answer = await route_pb2_grpc.RouteServiceStub(channel).MapRoute(
                route_pb2.MapRouteRequest(
                    app=app,
                    hostname=hostname,
                    wait=progress_pb2.WAIT_SERVED,
                    timeout=Duration(seconds=int(DEADLINE)),
                )
            )
        return answer.complete

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

    async def remove(self, instance: str) -> None:
        """Remove an instance for good."""
        async with self.operator() as channel:
            await instance_pb2_grpc.InstanceServiceStub(channel).RemoveInstance(
                instance_pb2.RemoveInstanceRequest(guid=instance)
            )


@contextlib.asynccontextmanager
async def platform(
    directory: Path, *, lifetime: timedelta = timedelta(hours=24), is_started: bool = True
) -> AsyncIterator[Platform]:
    """Run a control plane until the block ends."""
    settings = Settings(
        data_dir=directory / "control-plane",
        xds_address=SocketAddress("127.0.0.1", free_port()),
        enroll_address=SocketAddress("127.0.0.1", free_port()),
        http_address=SocketAddress("127.0.0.1", free_port()),
        certificate_lifetime=lifetime,
        drain_time=timedelta(milliseconds=200),
    )
    made = Platform(settings)
    if is_started:
        await made.start()
    try:
        yield made
    finally:
        await made.stop()


@dataclass(slots=True)
class Sidecar:
    """A sidecar that runs, or has ended."""

    directory: Path
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    @property
    def envoy(self) -> Envoy:
        """Its Envoy, to look at."""
        return Envoy(self.directory, self.process)

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Return what it logged under this name."""
        parsed = (json.loads(line) for line in self.lines if line.startswith("{"))
        return [each for each in parsed if each["event"] == name]

    async def logged(self, name: str, *, times: int = 1) -> Mapping[str, Any]:
        """Wait until it has logged an event so many times, and return the last."""

        async def probe() -> list[Mapping[str, Any]]:
            found = self.events(name)
            return found if len(found) >= times else []

        return (await until(probe, what=f"the sidecar logs {name}; it logged {self.lines}"))[-1]

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    async def stop(self) -> int:
        """Tell it to stop, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@contextlib.asynccontextmanager
async def sidecar(
    ticket: Ticket | None,
    directory: Path,
    *options: str,
    command: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Sidecar]:
    """Run ``c2c sidecar`` until the block ends.

    Args:
        ticket: goes by variables, where ``ps`` does not show it.
        directory: its ``--dir``.
        options: more of its options.
        command: the app.
        variables: more of its variables.
    """
    environment = {**os.environ, **(variables or {}), "C2C_SIDECAR_DIR": str(directory)}
    if ticket is not None:
        environment["C2C_SIDECAR_SERVER"] = ticket.server
        environment["C2C_SIDECAR_TOKEN"] = ticket.token
        environment["C2C_SIDECAR_FINGERPRINT"] = ticket.fingerprint
    process = await asyncio.create_subprocess_exec(
        C2C,
        "sidecar",
        *("--log-format", "json", "--offline-wait", "0s", "--drain-time", "1s"),
        *options,
        *(("--", *command) if command else ()),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    started = Sidecar(directory, process)
    reading = [
        asyncio.create_task(_read(process.stderr, started.lines)),
        asyncio.create_task(_read(process.stdout, started.output)),
    ]
    try:
        yield started
    except BaseException as error:
        error.add_note("\n".join(["the sidecar wrote:", *started.lines[-40:], *started.output]))
        raise
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        await process.wait()
        await asyncio.gather(*reading)


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls an app over HTTPS, with full verification, on a new connection each time."""

    source: str
    ca: bytes
    host: str

    async def call(self, address: str) -> tls_client.Answer:
        """Return the answer to one request."""
        async with tls_client.connect(address, self.host, self.ca, source=self.source) as client:
            return await client.request("/")

    async def serial(self, address: str) -> int:
        """Return the serial of the certificate that is shown."""
        leaf = await tls_client.handshake(address, self.host, self.ca, source=self.source)
        return leaf.serial

    async def reaches(self, address: str) -> None:
        """Wait until a request is answered."""

        async def probe() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return (await self.call(address)).status == 200
            return False

        await until(probe, what=f"{self.host} at {address} answers")
