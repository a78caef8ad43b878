"""A control plane that delivers name tables over mTLS, and what it saw of its clients.

The rule of this module: the server is the project's own, as a library; certificates are made on the
spot, a new one for each connection, as if the identity had been renewed every time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import grpc

from control_plane.names import SERVER_NAME, InstanceGuid
from control_plane.nodes import LiveStream
from control_plane.server.library import ResourceServer
from control_plane.settings.values import read_server_address
from control_plane.sidecar.channel import instance_channel
from control_plane.sidecar.dns.client import RESOURCE_NAME, TYPE_URL
from control_plane.xds.events import Acked, Event, Nacked
from control_plane.xds.messages import Reply
from control_plane.xds.resource import Resource
from tests.envoy.certificates import Authority
from tests.unit.sidecar_dns.tables import message_of
from tests.waiting import eventually

if TYPE_CHECKING:
    from control_plane.sidecar.directory import Credentials

INSTANCE = InstanceGuid("instance-1")


@dataclass(eq=False, slots=True)
class ControlPlane:
    """A server with one node; a ``StreamObserver`` of it.

    Attributes:
        opened_with: the certificate names shown for each stream.
        open: the streams that are there.
        acked: versions of the name table that were accepted, in order; None for its absence.
        nacked: the messages with which it was refused.
        at_ack: called at the moment of each ACK.
    """

    authority: Authority
    server: ResourceServer
    opened_with: list[tuple[str, ...]] = field(default_factory=list)
    open: list[LiveStream] = field(default_factory=list)
    acked: list[str | None] = field(default_factory=list)
    nacked: list[str] = field(default_factory=list)
    connections: int = 0
    at_ack: Callable[[], None] = lambda: None

    def set(self, names: Mapping[str, Iterable[str]]) -> str:
        """Say what the instance may resolve; return the version of that."""
        return self.set_body(message_of(names).SerializeToString(deterministic=True))

    def set_body(self, body: bytes) -> str:
        """Say what the instance's name table is, octet by octet; return the version of that."""
        resource = Resource.of(TYPE_URL, RESOURCE_NAME, body)
        self.server.set_resources(INSTANCE, [resource])
        return resource.version

    def withdraw(self) -> None:
        """Say that the instance has nothing."""
        self.server.set_resources(INSTANCE, [])

    def connect(self) -> grpc.aio.Channel:
        """Open a sidecar's channel with a new identity."""
        self.connections += 1
        pair = self.authority.issue(f"connection-{self.connections}.test")
        key = SimpleNamespace(private_pem=lambda: pair.key)
        identity = SimpleNamespace(key=key, chain_pem=pair.chain)
        shown = SimpleNamespace(identity=identity, trust_bundle=self.authority.pem)
        return instance_channel(
            read_server_address(self.server.address), cast("Credentials", shown)
        )

    async def acks(self, number: int) -> None:
        """Return once that many name tables, or absences of it, were accepted."""
        await eventually(lambda: len(self.acked) == number, f"ACK {number}")

    async def nacks(self, number: int) -> None:
        """Return once that many name tables were refused."""
        await eventually(lambda: len(self.nacked) == number, f"NACK {number}")

    def opened(self, live: LiveStream) -> None:
        """Note who came."""
        self.opened_with.append(live.identities)
        self.open.append(live)

    def told(self, _: LiveStream, events: Sequence[Event]) -> None:
        """Note what was accepted and refused."""
        for event in events:
            if isinstance(event, Acked):
                self.acked.append(event.versions[RESOURCE_NAME])
                self.at_ack()
            elif isinstance(event, Nacked):
                self.nacked.append(event.error.message)

    def sent(self, _: LiveStream, reply: Reply) -> None:
        """Nothing to note."""

    def closed(self, live: LiveStream) -> None:
        """Note who went."""
        self.open.remove(live)


@asynccontextmanager
async def control_plane_on(
    address: str = "127.0.0.1:0", authority: Authority | None = None
) -> AsyncIterator[ControlPlane]:
    """Run a control plane that has nothing for anybody yet."""
    authority = authority or Authority()
    pair = authority.issue(SERVER_NAME)
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.chain)], authority.pem, require_client_auth=True
    )
    async with ResourceServer(address, credentials=credentials) as server:
        control = ControlPlane(authority, server)
        server.observe(control)
        yield control
