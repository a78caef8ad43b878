"""How far each resource got on its way to one client, as operators ask and commands wait for.

The rule of this module: nothing is recorded twice. The machines know what was sent and accepted,
and the refusals know what was refused; this module only compares both with the snapshot that the
node should have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from control_plane.xds.exchange import Exchange
from control_plane.xds.refusal import Refusal
from control_plane.xds.resource import TypeUrl, Version
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream
from control_plane.xds.translation import Machine


class ConfigStatus(Enum):
    """How far a resource got, in the words of ``envoy.service.status.v3.ConfigStatus``."""

    SYNCED = "SYNCED"
    """The client ACKed the content that it should have."""

    NOT_SENT = "NOT_SENT"
    """The content was never sent, or waits for its turn."""

    STALE = "STALE"
    """The content was sent, and neither ACKed nor NACKed yet."""

    ERROR = "ERROR"
    """The client NACKed the content."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One resource on its way to one client.

    Attributes:
        version: the version that the client should have.
        accepted: the version that the client has; None if it has none.
        since: when the client accepted that version, in seconds of the server's monotonic clock;
            None if never.
        refusal: the client's last refusal of this name, if it accepted nothing since.
    """

    type_url: TypeUrl
    name: str
    version: Version
    status: ConfigStatus
    accepted: Version | None
    since: float | None
    refusal: Refusal | None


def deliveries(stream: Stream, snapshot: Snapshot) -> Iterator[Delivery]:
    """Yield every resource that the client of a stream wants and should have, by type and name."""
    for url, machine in stream.machines.items():
        content = stream.content(url, snapshot)
        versions = {**content.recorded}
        versions |= {name: each.version for name, each in content.resources.items()}
        for name in sorted(versions):
            if machine.wants(name, content):
                yield _delivery(url, name, versions[name], machine, stream)


def has_version(stream: Stream, type_url: TypeUrl, name: str, version: Version) -> bool:
    """Tell whether the client of a stream accepted this version of a resource."""
    machine = stream.machines.get(type_url)
    return machine is not None and machine.exchange.has(name) == version


def _delivery(
    url: TypeUrl, name: str, version: Version, machine: Machine, stream: Stream
) -> Delivery:
    accepted = machine.exchange.accepted.get(name)
    refusal = stream.refusal(url, name)
    return Delivery(
        url,
        name,
        version,
        _status(name, version, machine.exchange, refusal),
        accepted.version if accepted else None,
        accepted.at if accepted else None,
        refusal,
    )


def _status(
    name: str, version: Version, exchange: Exchange, refusal: Refusal | None
) -> ConfigStatus:
    if exchange.in_flight is not None and exchange.in_flight.get(name) == version:
        return ConfigStatus.STALE
    if exchange.has(name) == version:
        return ConfigStatus.SYNCED
    if refusal is not None and refusal.version == version:
        return ConfigStatus.ERROR
    return ConfigStatus.NOT_SENT
