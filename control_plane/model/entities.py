"""The nouns of the domain: apps, instances, routes, and policies on which app may call which.

The rule of this module: an entity is a value. It is never changed, only replaced, so code that
holds one may keep it for as long as it likes. Everything here was parsed before, so nothing is
checked again.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from control_plane.names import Address, AppGuid, AppName, Hostname, InstanceGuid, Port


class AppProtocol(StrEnum):
    """What an app speaks on its own port, behind Envoy."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TCP = "tcp"


class OperatingSystem(StrEnum):
    """What an app's containers run; container-to-container networking is for Linux only."""

    LINUX = "linux"
    WINDOWS = "windows"


class HealthCheckType(StrEnum):
    """What makes an instance of an app healthy, by Cloud Foundry's names."""

    PORT = "port"
    """The app accepts connections on its C2C port."""

    PROCESS = "process"
    """Its process runs. This is for an app that only calls others, and may listen nowhere."""


class Transport(StrEnum):
    """The transport protocol that a network policy names."""

    TCP = "tcp"
    UDP = "udp"


class InstanceStatus(StrEnum):
    """Where an instance is in its life: whether names lead to it, and whether it may call."""

    REGISTERED = "registered"
    """Known, but never connected so far: it may call others, and no name leads to it."""

    READY = "ready"
    """Connected, and its app is healthy: names lead to it."""

    NOT_READY = "not_ready"
    """Connected, and its app is not healthy (yet), or it is about to stop: no name leads to it."""

    GONE = "gone"
    """It left, or its streams broke and it did not come back: it may not call others."""

    @property
    def is_there(self) -> bool:
        """Whether it is connected, or was connected and may come back before it counts as gone."""
        return self in (InstanceStatus.READY, InstanceStatus.NOT_READY)


@dataclass(frozen=True, slots=True, order=True)
class AppKey:
    """How people name an app: unique within its space."""

    org: str
    space: str
    name: AppName

    @property
    def place(self) -> tuple[str, str]:
        """The org and the space."""
        return self.org, self.space

    def named_in(self, place: tuple[str, str], index: int | None = None) -> str:
        """Return the app's name as seen from a place; with its own org and space, if they differ.

        Args:
            place: the org and space of the reader.
            index: the index of the instance to name; None to name the app.
        """
        name = self.name if index is None else f"{self.name}/{index}"
        return name if self.place == place else f"{name} in org {self.org} / space {self.space}"


@dataclass(frozen=True, slots=True)
class App:
    """An app, which has any number of instances.

    Attributes:
        ports: the ports that the app listens on, in the order given, without repetitions.
        c2c_port: the port that 61443 forwards to; None if there is none (Windows).
        ssh: whether an SSH server listens on 2222 beside the app.
        health_check_type: what makes its instances healthy.
    """

    guid: AppGuid
    key: AppKey
    ports: tuple[Port, ...]
    c2c_port: Port | None
    protocol: AppProtocol = AppProtocol.HTTP1
    os: OperatingSystem = OperatingSystem.LINUX
    ssh: bool = False
    health_check_type: HealthCheckType = HealthCheckType.PORT


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of an app, with an Envoy beside it.

    Attributes:
        guid: the identity of the instance; also the first name in its certificates.
        index: the lowest number that was free among the instances of its app.
        address: where other containers reach its Envoy.
        app_address: where its Envoy reaches the app.
        status: where it is in its life.
        has_sidecar: whether a sidecar ever reported for it, so that its reports are waited for.
        has_resolver: whether it ever had a resolver that follows its name table.
    """

    guid: InstanceGuid
    app_guid: AppGuid
    index: int
    address: Address
    app_address: Address
    status: InstanceStatus = InstanceStatus.REGISTERED
    has_sidecar: bool = False
    has_resolver: bool = False


@dataclass(frozen=True, slots=True, order=True)
class RouteMapping:
    """An internal route that resolves to an app's instances (several apps may share a route)."""

    hostname: Hostname
    app_guid: AppGuid


@dataclass(frozen=True, slots=True, order=True)
class NetworkPolicy:
    """Permission for an app's instances to connect to ports of another's; by default none may."""

    source: AppGuid
    destination: AppGuid
    transport: Transport
    start_port: Port
    end_port: Port

    def allows(self, transport: Transport, port: int) -> bool:
        """Tell whether the policy covers this port."""
        return transport is self.transport and self.start_port <= port <= self.end_port


@dataclass(frozen=True, slots=True)
class Source:
    """An app that may connect to a port, and the addresses that it connects from.

    Attributes:
        addresses: the addresses of its instances, in a fixed order; there may be none.
    """

    app: AppGuid
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class JoinToken:
    """Permission to enrol instances of one app; only the hash of the token is ever stored.

    Attributes:
        digest: hexadecimal SHA-256 of the token.
        uses_left: how many enrolments it is still good for.
        address_range: a CIDR range; an instance may enrol with an address in it, besides the
            address that it connects from. "" if there is none.
        guid: the name under which the token is shown; drawn independently, so it reveals nothing
            about the token.
        created_at: None if an older release made the token.
        uses: how many enrolments the token was made for; None likewise.
    """

    digest: str = field(repr=False)
    app_guid: AppGuid
    expires_at: datetime
    uses_left: int
    address_range: str = ""
    guid: str = ""
    created_at: datetime | None = None
    uses: int | None = None

    def is_good(self, now: datetime) -> bool:
        """Tell whether a client could enrol with the token."""
        return self.uses_left > 0 and self.expires_at > now


@dataclass(frozen=True, slots=True)
class OperatorCertificate:
    """A certificate that makes its holder an operator; what is said of it, and not itself.

    Attributes:
        serial: its serial number (RFC 5280, section 4.1.2.2).
        name: its holder, in the audit log; "" if it was not issued here.
        ends_at: when it ends, revoked or not.
        issued_at: None if it was not issued here.
        issued_by: serial of the certificate with which it was asked for; None for the socket.
        revoked_at: since when it has been worthless; None if it was not revoked.
    """

    serial: int
    name: str
    ends_at: datetime
    issued_at: datetime | None = None
    issued_by: int | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of an instance that was removed, because its Envoy may come back.

    Attributes:
        ends_at: when the last identity ends that the instance may have.
        address, app_address: those that it had, if it was removed only because another instance got
            its address: its identity still counts, and it may return. Otherwise None.
    """

    instance_guid: InstanceGuid
    app_guid: AppGuid
    ends_at: datetime
    address: Address | None = None
    app_address: Address | None = None


@dataclass(frozen=True, slots=True)
class DrainingPort:
    """Where a port of an app led until recently, because connections of that time may be open.

    Attributes:
        protocol: the protocol that is spoken there.
        ends_at: until when the port is served.
    """

    app_guid: AppGuid
    app_port: Port
    proxy_port: Port
    protocol: AppProtocol
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class DrainingCaller:
    """An app that might call another one until recently, because connections may still be open.

    Attributes:
        ends_at: until when the caller is remembered.
    """

    source: AppGuid
    destination: AppGuid
    ends_at: datetime


Draining = DrainingPort | DrainingCaller
"""What was removed, but is still served for a while."""

Permit = JoinToken | OperatorCertificate
"""Permission to come in from another machine, until it ends or is revoked."""

Entity = App | Instance | RouteMapping | NetworkPolicy | Permit | Tombstone | Draining
"""Everything for which the store keeps a row."""


def key_of(entity: Entity) -> Hashable:
    """Return what all versions of an entity share; a State has at most one entity of each key."""
    match entity:
        case App() | Instance():
            return type(entity), entity.guid
        case RouteMapping() | NetworkPolicy():
            return entity
        case JoinToken():
            return JoinToken, entity.digest
        case OperatorCertificate():
            return OperatorCertificate, entity.serial
        case Tombstone():
            return Tombstone, entity.instance_guid
        case DrainingPort(app, app_port, proxy_port):
            return DrainingPort, app, app_port, proxy_port
        case DrainingCaller(source, destination):
            return DrainingCaller, source, destination
        case _:
            assert_never(entity)
