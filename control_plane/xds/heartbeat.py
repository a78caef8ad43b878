"""Keeping alive what ends in a client by itself: resources with a time to live (TTL).

The rules of this module (quotations are from the xDS protocol, section "TTL"):

- "To allow for lightweight TTL updates ("heartbeats"), a response can be sent that provides a
  Resource with the resource unset and version matching the most recently sent version [...]. These
  resources will not be treated as resource updates, but only as TTL updates." A third of the TTL
  after it was told, it is told again.
- So a heartbeat is never in flight. It leaves even while a response awaits its answer, so that a
  client that is slow to answer loses nothing meanwhile; it changes no version, status or refusal;
  and its ACK tells nothing.
- Its NACK tells that the client had let go of the resource already: the server was too slow, and
  owes it the content again.
- "To remove the TTL, the management server resends the resource with the TTL field unset." It is
  not known which TTLs an earlier stream told a client: they run on while it is away. So one that
  comes back is sent what has none, although it has that.
- Envoy 1.40 takes what a state-of-the-world response has without content for gone. There,
  everything is sent again as it is, and only while no answer is awaited: what the client has is not
  known before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from control_plane.xds.events import Nacked
from control_plane.xds.exchange import Exchange
from control_plane.xds.messages import ErrorDetail, Node
from control_plane.xds.resource import NOTHING, Nonce, Resource, TypeUrl, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot

BEATS = 3
"""How often a TTL is told anew before it would end: two of them may be late."""

UNANSWERED = 16
"""How many unanswered heartbeats are remembered: a client may never answer."""

SOONEST = 0.05
"""Seconds until the next try to keep alive what could not be kept alive now."""


_SUPPORTS_TTL = "xds.config.supports-resource-ttl"
_SUPPORTS_WRAPPED_RESOURCES = "xds.config.resource-in-sotw"


@dataclass(frozen=True, slots=True)
class Told:
    """A TTL that a client was told, and when it is to be told again.

    Attributes:
        again_at: in seconds of the server's monotonic clock.
    """

    ttl: float
    again_at: float

    @classmethod
    def now(cls, ttl: float, now: float) -> Told:
        """Return what is told now."""
        return cls(ttl, now + ttl / BEATS)


UNKNOWN = Told(0.0, inf)
"""What an earlier stream told, or what nobody could tell anew in time."""


def takes_ttls(node: Node | None, resource_type: ResourceType, *, delta: bool) -> bool:
    """Tell whether a client may be sent TTLs, by the features that it says it has.

    It may not of what is sent on demand: there, a resource without content says that it is not
    there.
    """
    if node is None or resource_type.part_of is not None:
        return False
    features = node.client_features
    return _SUPPORTS_TTL in features and (delta or _SUPPORTS_WRAPPED_RESOURCES in features)


class Heartbeats:
    """The TTLs that one client was told of one type, and the heartbeats that it has to answer."""

    __slots__ = ("_beside", "_exchange", "_told", "_unanswered", "_url")

    def __init__(self, url: TypeUrl, exchange: Exchange, *, beside: bool) -> None:
        """Start with a client that was told none.

        Args:
            url: of what type.
            exchange: what the client has.
            beside: whether a heartbeat may leave beside a response that awaits its answer.
        """
        self._url = url
        self._exchange = exchange
        self._beside = beside
        self._told: dict[str, Told] = {}
        self._unanswered: dict[str, Mapping[str, Version]] = {}

    def unknown(self, names: Iterable[str]) -> None:
        """Take note that nobody knows for how long the client keeps these, or whether it still has.

        It is told so as soon as there is anything to tell: another TTL, or the content without one.
        """
        self._told |= dict.fromkeys(names, UNKNOWN)

    def told(self, resources: Iterable[Resource], now: float) -> dict[str, float]:
        """Take note of resources that the client is sent; return the TTLs of them."""
        ttls: dict[str, float] = {}
        for each in resources:
            if each.ttl is not None:
                ttls[each.name] = each.ttl
                before, told = self._told.get(each.name), Told.now(each.ttl, now)
                if before is not None and before.ttl < each.ttl:
                    # If the client refuses this, it has what ends sooner.
                    told = Told(each.ttl, min(told.again_at, before.again_at))
                self._told[each.name] = told
            elif self._told:
                self._told.pop(each.name, None)
        return ttls

    def end(self, content: TypeSnapshot) -> bool:
        """Owe the client what has no TTL any more; tell whether there is any.

        Until that is sent, it is kept alive with the last TTL.
        """
        over = {
            name
            for name in self._told
            if (resource := content.resources.get(name)) is not None
            and resource.ttl is None
            and self._version(name) is not None
        }
        self._exchange.owe(over)
        return bool(over)

    def due(self, content: TypeSnapshot, now: float) -> Mapping[str, float]:
        """Return what is to be kept alive now, and for how long, and take note of that."""
        if self._must_wait():
            return NOTHING
        ttls = {name: told.ttl for name, told in self._told.items()}
        ttls |= content.ttls
        due: dict[str, float] = {}
        for name, ttl in ttls.items():
            told = self._told.get(name)
            if self._version(name) is None:
                self._told.pop(name, None)
            elif told is None or told.ttl != ttl or now >= told.again_at:
                due[name] = ttl
                self._told[name] = Told.now(ttl, now)
        return due

    def next_beat(self, now: float) -> float | None:
        """Return the moment at which something is to be kept alive; None if there is none yet."""
        again_at = min((told.again_at for told in self._told.values()), default=inf)
        if again_at == inf or self._must_wait():
            return None
        return max(now + SOONEST, again_at)

    def beat(self, nonce: Nonce, names: AbstractSet[str]) -> Mapping[str, Version]:
        """Remember a heartbeat; return which versions the client has of these names."""
        versions = {name: self._version(name) for name in names}
        kept = {name: version for name, version in versions.items() if version is not None}
        self._unanswered[nonce] = kept
        if len(self._unanswered) > UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        return kept

    def answered(self, nonce: str) -> bool:
        """Tell whether a request with this nonce answers a heartbeat."""
        return nonce in self._unanswered

    def settle(self, nonce: str, error: ErrorDetail | None) -> tuple[Nacked, ...]:
        """Take the client's answer to a heartbeat; return what it told."""
        kept = self._unanswered.pop(nonce)
        if error is None:
            return ()
        # It may have refused that content itself, and have what it had before.
        lost = {name for name, version in kept.items() if self._exchange.has(name) == version}
        self._exchange.lose(lost)
        self._exchange.owe(lost)
        return (Nacked(self._url, nonce, {}, error),)

    def _must_wait(self) -> bool:
        return not self._beside and self._exchange.in_flight is not None

    def _version(self, name: str) -> Version | None:
        """Return what the client has of a name, if it accepts what is in flight."""
        in_flight = self._exchange.in_flight or {}
        return in_flight[name] if name in in_flight else self._exchange.has(name)
