"""How far each resource got on its way to one client, as operators ask and commands wait for.

The rule of this module: nothing is recorded twice. The machines know what was sent and accepted,
the refusals know what was not; this only reads them, against the snapshot that the node should
have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from control_plane.xds.exchange import ConfigStatus
from control_plane.xds.refusal import Refusal
from control_plane.xds.resource import TypeUrl, Version
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream
from control_plane.xds.translation import Machine


@dataclass(frozen=True, slots=True)
class Delivery:
    """One resource on its way to one client.

    Attributes:
        version: the version that the client should have.
        accepted: the version that it has; None if none.
        since: when it accepted that, in seconds of the server's monotonic clock; None if never.
        refusal: what it refused last of this name, if it accepted nothing since.
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
    return Delivery(
        url,
        name,
        version,
        machine.exchange.status(name, version),
        accepted.version if accepted else None,
        accepted.at if accepted else None,
        stream.refusal(url, name),
    )
