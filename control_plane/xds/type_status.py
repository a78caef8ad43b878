"""How far one type, with all its resources together, got on its way to one client.

The rule of this module: a type is only as far as its least advanced resource, and it is SYNCED only
if the client has no surplus resources either. Like ``delivery``, this module records nothing: it
reads what the machines know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from control_plane.xds.delivery import ConfigStatus, Delivery, deliveries
from control_plane.xds.resource import TypeUrl, Version, version_of_all
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from control_plane.xds.translation import Machine

_WORST_FIRST = (
    ConfigStatus.ERROR,
    ConfigStatus.STALE,
    ConfigStatus.NOT_SENT,
    ConfigStatus.SYNCED,
)


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type on its way to one client.

    The versions are hashes of names and versions, all made in the same way, so they can be
    compared.

    Attributes:
        wanted: the version of what the client should have, of what it asked for.
        sent: the version of what it has, together with what is on its way to it.
        accepted: the version of what it has.
        since: when the client last accepted or refused something, or was sent a response that it
            has not answered, in seconds of the server's monotonic clock; None if never.
        reason: why the type is not SYNCED, or "".
    """

    type_url: TypeUrl
    status: ConfigStatus
    wanted: Version
    sent: Version
    accepted: Version
    since: float | None
    reason: str
    deliveries: tuple[Delivery, ...]


def type_statuses(stream: Stream, snapshot: Snapshot) -> Iterator[TypeStatus]:
    """Yield each type that the client of a stream asked for."""
    by_type: dict[TypeUrl, list[Delivery]] = {url: [] for url in stream.machines}
    for each in deliveries(stream, snapshot):
        by_type[each.type_url].append(each)
    for url, found in by_type.items():
        content = stream.content(url, snapshot)
        yield _type_status(stream.machines[url], content, tuple(found))


def worst(statuses: Iterable[TypeStatus]) -> TypeStatus:
    """Return the least advanced status (a node may ask for one type on several streams)."""
    return min(statuses, key=lambda each: _WORST_FIRST.index(each.status))


def _type_status(
    machine: Machine, content: TypeSnapshot, found: tuple[Delivery, ...]
) -> TypeStatus:
    exchange = machine.exchange
    accepted = {name: each.version for name, each in exchange.accepted.items()}
    in_flight = exchange.in_flight or {}
    sent = {name: version for name, version in accepted.items() if name not in in_flight}
    sent |= {name: version for name, version in in_flight.items() if version is not None}
    status, since, reason = _standing(machine, content, found)
    return TypeStatus(
        machine.type.url,
        status,
        version_of_all({each.name: each.version for each in found}),
        version_of_all(sent),
        version_of_all(accepted),
        since,
        reason,
        found,
    )


def _standing(
    machine: Machine, content: TypeSnapshot, found: tuple[Delivery, ...]
) -> tuple[ConfigStatus, float | None, str]:
    exchange = machine.exchange
    for each in found:
        if each.status is ConfigStatus.ERROR and each.refusal is not None:
            return ConfigStatus.ERROR, each.refusal.at, f"{each.name}: {each.refusal.error.message}"
    if exchange.in_flight is not None:
        names = ", ".join(sorted(exchange.in_flight)) or "the list"
        return ConfigStatus.STALE, exchange.sent_at, f"sent and not answered yet: {names}"
    since = max((each.at for each in exchange.accepted.values()), default=None)
    if pending := sorted(filter(machine.subscription.wants, content.pending)):
        return ConfigStatus.NOT_SENT, since, f"not made yet: {', '.join(pending)}"
    if not machine.in_step(content):
        waiting = [each.name for each in found if each.status is not ConfigStatus.SYNCED]
        what = f"not sent yet: {', '.join(waiting)}" if waiting else "not everything is withdrawn"
        return ConfigStatus.NOT_SENT, since, what
    return ConfigStatus.SYNCED, since, ""
