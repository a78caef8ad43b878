"""What a node refused, and whether it may be sent again.

The rule of this module: a NACK is never answered with the same content at once (go-control-plane's
issue 46 and Istio's issue 21111 are endless loops of that). It is remembered for the node and not
for the stream, since a client that reconnects would refuse it once more or, worse, ACK it without
applying it.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.xds.messages import ErrorDetail
from control_plane.xds.resource import TypeUrl, Version
from control_plane.xds.resource_type import AfterNack, ResourceType

FIRST_PAUSE = 1.0
"""Seconds before refused content of a type that may be sent again is sent for the second time."""

LONGEST_PAUSE = 60.0
"""Seconds that the pause, which doubles with every refusal, never passes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Content that a node refused; ``version`` is None where it refused a removal.

    Attributes:
        at: when, in seconds of the server's monotonic clock.
        attempts: how often this content was refused in a row.
        retry_at: when it may be sent again; None for never.
    """

    version: Version | None
    error: ErrorDetail
    at: float
    attempts: int
    retry_at: float | None


class Refusals:
    """The refusals of one node for one type."""

    __slots__ = ("_by_name", "_type")

    def __init__(self, resource_type: ResourceType) -> None:
        """Start with nothing refused."""
        self._type = resource_type
        self._by_name: dict[str, Refusal] = {}

    def get(self, name: str) -> Refusal | None:
        """Return what is known against the resource of this name."""
        return self._by_name.get(name)

    def note(self, name: str, version: Version | None, error: ErrorDetail, now: float) -> None:
        """Remember that the node refused this content."""
        before = self._by_name.get(name)
        attempts = before.attempts + 1 if before and before.version == version else 1
        retry_at = None
        if self._type.after_nack is AfterNack.AFTER_A_WHILE:
            retry_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10))
        self._by_name[name] = Refusal(version, error, now, attempts, retry_at)

    def clear(self, name: str) -> None:
        """Forget the refusal: the node accepted content of this name."""
        self._by_name.pop(name, None)

    def holds_back(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether this content must not be sent (yet)."""
        refusal = self._by_name.get(name)
        if refusal is None or refusal.version != version:
            return False
        return refusal.retry_at is None or now < refusal.retry_at

    def next_retry(self, now: float) -> float | None:
        """Return the moment at which something held back may be sent again, if there is one."""
        moments = [r.retry_at for r in self._by_name.values() if r.retry_at and r.retry_at > now]
        return min(moments, default=None)


class NodeRefusals:
    """The refusals of one node, by type; they outlive its streams."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._by_type: dict[TypeUrl, Refusals] = {}

    def of_type(self, resource_type: ResourceType) -> Refusals:
        """Return the refusals for one type."""
        found = self._by_type.get(resource_type.url)
        if found is None:
            found = self._by_type[resource_type.url] = Refusals(resource_type)
        return found
