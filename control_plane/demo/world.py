"""The processes of the demo: a control plane in this one, a sidecar and an app per instance.

The rule of this module: nothing is faked. Sidecars are started by the very command that a user
types, enrol with real join tokens, and run the real Envoy.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

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
    trust_pb2,
    trust_pb2_grpc,
)
from control_plane.app import ControlPlane
from control_plane.demo.places import (
    APP_PORT,
    CALLER,
    DNS_PORT,
    DOMAIN,
    SERVER_APP,
    Place,
)
from control_plane.names import C2C_PORT, Address
from control_plane.settings import Settings, SocketAddress, socket_target
from control_plane.sidecar.directory import ADMIN_SOCKET
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin

_LOOPBACK = SocketAddress("127.0.0.1", 0)
_STOP_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that was started, whose child processes are its Envoy and its app."""

    place: Place
    process: asyncio.subprocess.Process
    directory: Path


class World:
    """All processes; an asynchronous context manager that ends what it started."""

    def __init__(self, directory: Path) -> None:
        """Put every file below this directory.

        Args:
            directory: an empty directory.
        """
        self.directory = directory
        self.sidecars: dict[str, Sidecar] = {}
        self._exit = AsyncExitStack()
        self._channel: grpc.aio.Channel
        self.control_plane: ControlPlane

    async def __aenter__(self) -> Self:
        """Start the control plane."""
        data = self.directory / "control-plane"
        settings = Settings(
            data_dir=data,
            xds_address=_LOOPBACK,
            enroll_address=_LOOPBACK,
            http_address=_LOOPBACK,
        )
        async with AsyncExitStack() as starting:
            self.control_plane = await starting.enter_async_context(ControlPlane(settings))
            address = socket_target(self.control_plane.admin_socket)
            self._channel = await starting.enter_async_context(grpc.aio.insecure_channel(address))
            starting.push_async_callback(self._end_sidecars)
            self._exit = starting.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything."""
        await self._exit.aclose()

    async def create_app(self, name: str) -> None:
        """Create an app."""
        await app_pb2_grpc.AppServiceStub(self._channel).CreateApp(
            app_pb2.CreateAppRequest(name=name)
        )

    async def start_sidecar(self, place: Place) -> None:
        """Start a sidecar and its app with a join token of its own."""
        token = await join_token_pb2_grpc.JoinTokenServiceStub(self._channel).CreateJoinToken(
            join_token_pb2.CreateJoinTokenRequest(app=place.app, address_range="127.0.0.0/8")
        )
        directory = self.directory / place.directory
        hello = ["-P", "-m", "control_plane.demo.hello", "--name", place.label]
        listen = ["--listen", f"{place.app_address}:{APP_PORT}"]
        with (self.directory / f"{directory.name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *_c2c(),
                *("sidecar", "--server", token.server, "--fingerprint", token.fingerprint),
                *("--address", place.address, "--app-address", place.app_address),
                *("--dir", str(directory), "--dns-address", f"{place.address}:{DNS_PORT}"),
                *("--offline-wait", "0s", "--drain-time", "1s", "--stop-time", "2s"),
                *("--", sys.executable, *hello, *listen),
                env={**os.environ, "C2C_SIDECAR_TOKEN": token.token},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.sidecars[place.label] = Sidecar(place, process, directory)

    async def kill_sidecar(self, place: Place) -> None:
        """Kill a sidecar, and whatever it started, without any warning."""
        process = self.sidecars.pop(place.label).process
        _kill(process.pid)
        await process.wait()

    async def ready(self, timeout: float) -> None:
        """Return once every instance is ready.

        Raises:
            RuntimeError: a sidecar ended, or the time is up; the error has the end of its log.
        """
        await self._until(self._all_ready, timeout, "not all instances are ready in time")

    async def is_up(self, places: Iterable[Place]) -> bool:
        """Tell whether exactly these instances were started, and all of them are ready."""
        try:
            are_started = set(self.sidecars) == {each.label for each in places}
            return are_started and await self._all_ready()
        except RuntimeError:
            return False

    async def registered(self, place: Place, timeout: float) -> None:
        """Return once an instance has enrolled, and so has its index.

        Raises:
            RuntimeError: a sidecar ended, or the time is up; the error has the end of its log.
        """

        async def is_known() -> bool:
            self._check_sidecars()
            state = self.control_plane.core.registry.state
            return state.instance_at(Address(place.address)) is not None

        await self._until(is_known, timeout, f"{place.label} has not enrolled in time")

    async def _until(
        self, probe: Callable[[], Awaitable[bool]], timeout: float, complaint: str
    ) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not await probe():  # noqa: ASYNC110 - it is about another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise RuntimeError(self._complaint(complaint)) from None

    async def map_route(self, host: str, app: str = SERVER_APP) -> route_pb2.MapRouteResponse:
        """Map a route to an app, and wait until it is served."""
        stub = route_pb2_grpc.RouteServiceStub(self._channel)
        return await stub.MapRoute(
            route_pb2.MapRouteRequest(
                app=app, hostname=host, domain=DOMAIN, wait=progress_pb2.WAIT_SERVED
            )
        )

    async def unmap_route(
        self,
        host: str,
        app: str = SERVER_APP,
        wait: progress_pb2.Wait.ValueType = progress_pb2.WAIT_SERVED,
    ) -> route_pb2.UnmapRouteResponse:
        """Unmap a route from an app, and wait until no certificate has it any more."""
        stub = route_pb2_grpc.RouteServiceStub(self._channel)
        return await stub.UnmapRoute(
            route_pb2.UnmapRouteRequest(app=app, hostname=host, domain=DOMAIN, wait=wait)
        )

    async def allow(self, destination: str = SERVER_APP, source: str = CALLER.app) -> None:
        """Allow app-a to connect to another app on 61443."""
        await network_policy_pb2_grpc.NetworkPolicyServiceStub(self._channel).AddNetworkPolicies(
            network_policy_pb2.AddNetworkPoliciesRequest(
                policies=[_policy(source, destination)], wait=progress_pb2.WAIT_ACKED
            )
        )

    async def forbid(self, destination: str = SERVER_APP, source: str = CALLER.app) -> None:
        """Forbid that again."""
        await network_policy_pb2_grpc.NetworkPolicyServiceStub(self._channel).RemoveNetworkPolicies(
            network_policy_pb2.RemoveNetworkPoliciesRequest(
                policies=[_policy(source, destination)], wait=progress_pb2.WAIT_ACKED
            )
        )

    async def trust_bundle(self) -> str:
        """Return the CA certificates that clients have to trust."""
        answer = await trust_pb2_grpc.TrustServiceStub(self._channel).GetTrustBundle(
            trust_pb2.GetTrustBundleRequest()
        )
        return str(answer.trust_bundle)

    async def envoy(self, label: str) -> tuple[int, int]:
        """Return the process number and the restart epoch of an instance's Envoy."""
        admin = EnvoyAdmin(self.sidecars[label].directory / ADMIN_SOCKET)
        return admin.pid(), await admin.restart_epoch()

    def _check_sidecars(self) -> None:
        ended = [s for s in self.sidecars.values() if s.process.returncode is not None]
        if ended:
            raise RuntimeError(self._complaint(f"the sidecar of {ended[0].place.label} ended"))

    async def _all_ready(self) -> bool:
        self._check_sidecars()
        answer = await instance_pb2_grpc.InstanceServiceStub(self._channel).ListInstances(
            instance_pb2.ListInstancesRequest()
        )
        state = self.control_plane.core.registry.state
        ready = [each for each in state.all_instances() if each.status == "ready"]
        return len(ready) == len(answer.instances) == len(self.sidecars)

    def _complaint(self, sentence: str) -> str:
        logs = []
        for path in sorted(self.directory.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-8:]
            logs += [f"--- {path.name}", *tail]
        return "\n".join([sentence, *logs])

    async def _end_sidecars(self) -> None:
        running = [s.process for s in self.sidecars.values() if s.process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                with suppress(FileNotFoundError, ProcessLookupError):
                    _kill(process.pid)


def _kill(sidecar: int) -> None:
    """Kill a sidecar with its Envoy and its app, each of which leads a group of its own."""
    started = Path(f"/proc/{sidecar}/task/{sidecar}/children").read_text().split()
    os.killpg(sidecar, signal.SIGKILL)
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _policy(source: str, destination: str) -> network_policy_pb2.NetworkPolicy:
    return network_policy_pb2.NetworkPolicy(
        source=source,
        destination=destination,
        protocol="tcp",
        start_port=C2C_PORT,
        end_port=C2C_PORT,
    )


def _c2c() -> tuple[str, ...]:
    """Return the command of this process's installation, whatever the working directory is."""
    return sys.executable, "-P", "-c", "from control_plane.cli.main import main; main()"
