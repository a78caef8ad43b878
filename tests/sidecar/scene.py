"""An app with a route and one instance, which most tests of this directory begin with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from control_plane.model.entities import Instance
from control_plane.names import Address
from tests.envoy import tls_client
from tests.envoy.apps import App, Serve, http1, tcp_app
from tests.envoy.harness import unique_address, until
from tests.sidecar.platform import Platform, free_port, platform
from tests.sidecar.process import Sidecar, sidecar

HTTP1 = http1()
NAME = "app-b.apps.internal"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls an app over HTTPS, with full verification, on a new connection each time."""

    source: str
    ca: bytes
    host: str

    def connect(self, address: str) -> AbstractAsyncContextManager[tls_client.Connection]:
        """Open a connection."""
        return tls_client.connect(address, self.host, self.ca, source=self.source)

    async def call(self, address: str) -> tls_client.Answer:
        """Return the answer to one request."""
        async with self.connect(address) as client:
            return await client.request("/")

    async def serial(self, address: str) -> int:
        """Return the serial of the certificate that is shown."""
        async with self.connect(address) as client:
            return client.leaf.serial

    async def shakes_hands(self, address: str) -> None:
        """Wait until a handshake succeeds, which is all that says something with any app."""

        async def probe() -> bool:
            with contextlib.suppress(OSError):
                return bool(await self.serial(address))
            return False

        await until(probe, what=f"{self.host} at {address} shows its certificate")

    async def reaches(self, address: str) -> None:
        """Wait until a request is answered."""

        async def probe() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return (await self.call(address)).status == 200
            return False

        await until(probe, what=f"{self.host} at {address} answers")


@dataclass(frozen=True, slots=True)
class Scene:
    """An app with a route, the address of its only instance, and somebody who may call it."""

    cf: Platform
    address: str
    app: App
    caller: Caller
    directory: Path

    @property
    def port(self) -> int:
        """Where the app listens, or should."""
        return self.app.port

    @property
    def status(self) -> str:
        """Where the control plane knows the instance to be in its life; "" if it has none."""
        found = self._found
        return "" if found is None else found.status.value

    async def becomes(self, status: str) -> None:
        """Wait until the control plane knows the instance to be like that."""

        async def probe() -> bool:
            return self.status == status

        await until(probe, what=f"the instance is {status}; it is {self.status}")

    @property
    def instance_guid(self) -> str:
        """The identity of the instance; "" if there is none at this address."""
        found = self._found
        return "" if found is None else found.guid

    @property
    def _found(self) -> Instance | None:
        return self.cf.running.core.registry.state.instance_at(Address(self.address))

    @property
    def options(self) -> tuple[str, ...]:
        """What its sidecar is told besides server and token."""
        return ("--address", self.address)

    @asynccontextmanager
    async def instance(
        self,
        *options: str,
        command: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Sidecar]:
        """Run the instance until the block ends.

        Args:
            options: besides its address; the last of several counts.
            command: the app.
            variables: more of its variables.
        """
        ticket = await self.cf.ticket("app-b")
        told = (*self.options, *options)
        async with sidecar(
            ticket, self.directory, *told, command=command, variables=variables
        ) as running:
            yield running

    @asynccontextmanager
    async def instance_without_token(
        self,
        *options: str,
        command: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Sidecar]:
        """Run the instance with what an earlier one left in its directory."""
        server = str(self.cf.settings.enroll_address)
        told = ("--server", server, *self.options, *options)
        async with sidecar(
            None, self.directory, *told, command=command, variables=variables
        ) as running:
            yield running


@asynccontextmanager
async def scene(
    directory: Path,
    *,
    lifetime: timedelta = timedelta(hours=24),
    app: Serve | None = HTTP1,
    protocol: str = "http1",
    unproxied: bool = False,
) -> AsyncIterator[Scene]:
    """Run the control plane and the app until the block ends.

    Args:
        directory: where both have their files.
        lifetime: of every certificate.
        app: what listens already; None if it is for the sidecar to run one.
        protocol: what the app speaks.
        unproxied: whether Envoy listens on the app's own port too.
    """
    async with (
        platform(directory, lifetime=lifetime, unproxied=unproxied) as cf,
        _listening(app) as listening,
    ):
        await cf.create_app("app-b", port=listening.port, protocol=protocol)
        await cf.map_route("app-b", "app-b")
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, NAME)
        yield Scene(cf, unique_address(), listening, caller, directory / "sidecar")


@asynccontextmanager
async def _listening(serve: Serve | None) -> AsyncIterator[App]:
    if serve is None:
        yield App(port=free_port())
    else:
        async with tcp_app(serve) as app:
            yield app
