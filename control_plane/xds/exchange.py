"""One response at a time, and the answer to it: what SotW and delta have in common.

The rule of this module: one reply is in flight for each stream and type. The next is made only
after the client ACKed or NACKed the last, from the snapshot as it is by then; changes that come
meanwhile merge. A slow client coalesces by itself, a fast one waits for nothing, and no timer is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from control_plane.xds.events import Acked, Nacked
from control_plane.xds.messages import ErrorDetail
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import Nonce, TypeUrl, Version

NonceFactory = Callable[[], Nonce]
"""Gives a nonce that was never given before on the stream."""


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
class Accepted:
    """What the client has of one name: a version, or None after it was told of the absence."""

    version: Version | None
    at: float


class Exchange:
    """What the client of one stream has of one type, and the response that awaits its answer."""

    __slots__ = (
        "_last_name",
        "_refusals",
        "_type_url",
        "accepted",
        "in_flight",
        "last_nonce",
        "sent_at",
    )

    def __init__(self, type_url: TypeUrl, refusals: Refusals) -> None:
        """Start with a client that has nothing."""
        self._type_url = type_url
        self._refusals = refusals
        self.accepted: dict[str, Accepted] = {}
        self.in_flight: Mapping[str, Version | None] | None = None
        self.last_nonce = Nonce("")
        self.sent_at = 0.0
        self._last_name = ""

    def send(self, nonce: Nonce, versions: Mapping[str, Version | None], now: float) -> None:
        """Remember a response as in flight."""
        self.in_flight = versions
        self.last_nonce = nonce
        self.sent_at = now

    def answered(self, nonce: str) -> bool:
        """Tell whether a request with this nonce answers the response in flight.

        "The response_nonce field tells the server which of its responses the ACK or NACK is
        associated with."
        """
        return self.in_flight is not None and nonce == self.last_nonce

    def settle(self, error: ErrorDetail | None, now: float) -> Acked | Nacked:
        """Take the client's answer to the response in flight.

        "NACK signifies unsuccessful configuration and is indicated by the presence of the
        error_detail field": versions say nothing, since a NACK may carry the current one.
        """
        versions = self.in_flight or {}
        self.in_flight = None
        if error is not None:
            for name, version in versions.items():
                self._refusals.note(name, version, error, now)
                if self.has(name) == version:
                    self.accepted.pop(name, None)
            return Nacked(self._type_url, self.last_nonce, versions, error)
        for name, version in versions.items():
            self._refusals.clear(name)
            self.accepted[name] = Accepted(version, now)
        return Acked(self._type_url, self.last_nonce, versions)

    def has(self, name: str) -> Version | None:
        """Return the version that the client has of a name."""
        accepted = self.accepted.get(name)
        return accepted.version if accepted else None

    def lacks(self, name: str, version: Version, now: float) -> bool:
        """Tell whether the client has other content than this version, and may be sent it."""
        return self.has(name) != version and not self._refusals.holds_back(name, version, now)

    def holds_back(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether the client refused this content, so that it must not be sent (yet)."""
        return self._refusals.holds_back(name, version, now)

    def take_turn(self, names: Iterable[str], limit: int) -> list[str]:
        """Return the names of the next response of limited size, round and round.

        A name whose content changes all the time cannot starve the others.
        """
        ordered = sorted(names, key=lambda name: (name <= self._last_name, name))
        turn = ordered[:limit]
        self._last_name = turn[-1] if turn else self._last_name
        return turn

    def status(self, name: str, version: Version) -> ConfigStatus:
        """Say how far this version of a resource got on its way to the client."""
        if self.in_flight is not None and self.in_flight.get(name) == version:
            return ConfigStatus.STALE
        if self.has(name) == version:
            return ConfigStatus.SYNCED
        refusal = self._refusals.get(name)
        if refusal is not None and refusal.version == version:
            return ConfigStatus.ERROR
        return ConfigStatus.NOT_SENT
