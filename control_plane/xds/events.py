"""What a request told the server, for code that keeps records: the ledger, the log, the metrics.

The rule of this module: a machine neither logs nor counts; it returns these events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.xds.messages import ErrorDetail, Node
from control_plane.xds.resource import TypeUrl, Version


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream's first request told which client it is."""

    node: Node


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The client subscribed to these names (``*`` for all), some perhaps not for the first time."""

    type_url: TypeUrl
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The client gave up these names."""

    type_url: TypeUrl
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Acked:
    """The client accepted a response: it has these versions now; None stands for a removal."""

    type_url: TypeUrl
    nonce: str
    versions: Mapping[str, Version | None]


@dataclass(frozen=True, slots=True)
class Nacked:
    """The client refused a response with these versions and keeps what it had."""

    type_url: TypeUrl
    nonce: str
    versions: Mapping[str, Version | None]
    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class Stale:
    """The request answers a response that a newer one has overtaken; only its names were taken."""

    type_url: TypeUrl
    nonce: str


Event = Connected | Subscribed | Unsubscribed | Acked | Nacked | Stale


def subscription_events(
    type_url: TypeUrl, added: frozenset[str], dropped: frozenset[str]
) -> list[Event]:
    """Return the events for the names that a request added and dropped."""
    events: list[Event] = []
    if added:
        events.append(Subscribed(type_url, added))
    if dropped:
        events.append(Unsubscribed(type_url, dropped))
    return events
