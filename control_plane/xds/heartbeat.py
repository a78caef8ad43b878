"""Heartbeats: keeping alive the resources that expire in a client, those with a TTL.

The rules of this module (quotations are from the xDS protocol, section "TTL"):

- "To allow for lightweight TTL updates ("heartbeats"), a response can be sent that provides a
  Resource with the resource unset and version matching the most recently sent version [...]. These
  resources will not be treated as resource updates, but only as TTL updates." A TTL is sent again
  after a third of it has passed. Content that is sent meanwhile tells the TTL too, but may be
  refused, so it delays no heartbeat.
- So a heartbeat is never in flight. It leaves even while a response awaits its answer, so that a
  client that answers slowly loses nothing meanwhile. It changes no version, status or refusal, and
  its ACK tells nothing.
- A NACK of a heartbeat tells that the client had already dropped the resource: the server was too
  slow, and owes the client the content again.
- "To remove the TTL, the management server resends the resource with the TTL field unset." The
  server does not know which TTLs an earlier stream told a client, and they keep running while the
  client is away. So a client that comes back is sent the resources that have no TTL although it has
  them.
- Envoy 1.40 takes a resource without content in a state-of-the-world response for a removal. There,
  a heartbeat carries all content as it is, and leaves only while no answer is awaited, because
  until then it is not known what the client has.
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
from control_plane.xds.resource_type import CLUSTER, LISTENER, RUNTIME, ResourceType
from control_plane.xds.snapshot import TypeSnapshot

BEATS = 3
"""How many heartbeats there are per TTL, so that two of them may be late."""

UNANSWERED = 16
"""How many unanswered heartbeats are remembered; there is a bound because a client may never
answer."""

SOONEST = 0.05
"""Seconds until the next attempt to keep alive what could not be kept alive now."""


_SUPPORTS_TTL = "xds.config.supports-resource-ttl"
_SUPPORTS_WRAPPED_RESOURCES = frozenset(
    {
        "xds.config.resource-in-sotw",  # Envoy's list of client features
        "xds.config.supports-resource-in-sotw",  # the xDS protocol
    }
)


@dataclass(frozen=True, slots=True)
class Told:
    """A TTL that a client was told, and when it is due to be told again.

    Attributes:
        again_at: when it is due again, in seconds of the server's monotonic clock.
    """

    ttl: float
    again_at: float

    @classmethod
    def now(cls, ttl: float, now: float) -> Told:
        """Return the record of a TTL that is told now."""
        return cls(ttl, now + ttl / BEATS)


AT_ONCE = -inf
"""A moment that is always past."""

UNKNOWN = Told(0.0, inf)
"""A TTL that an earlier stream told, or that could not be renewed in time."""

_ENVOY_SURVIVES = frozenset({CLUSTER, LISTENER, RUNTIME})
"""The types of which a TTL may end in an Envoy that speaks state of the world."""


def takes_ttls(node: Node | None, resource_type: ResourceType, *, delta: bool) -> bool:
    """Tell whether a client may be sent TTLs, by the features that it declares.

    On-demand types never have TTLs, because there a resource without content means that it does not
    exist. In state of the world, Envoy 1.40 crashes at the end of a TTL of most types (its issue
    24271), and does not say so in its features.
    """
    if node is None or resource_type.part_of is not None:
        return False
    if node.is_envoy and not delta and resource_type.url not in _ENVOY_SURVIVES:
        return False
    features = node.client_features
    takes_wrapped = not _SUPPORTS_WRAPPED_RESOURCES.isdisjoint(features)
    return _SUPPORTS_TTL in features and (delta or takes_wrapped)


class Heartbeats:
    """The TTLs that one client was told of one type, and the heartbeats that it has to answer."""

    __slots__ = ("_beside", "_exchange", "_told", "_unanswered", "_url")

    def __init__(self, url: TypeUrl, exchange: Exchange, *, beside: bool) -> None:
        """Start with a client that was told no TTL.

        Args:
            url: the type.
            exchange: what the client has.
            beside: whether a heartbeat may leave beside a response that awaits its answer.
        """
        self._url = url
        self._exchange = exchange
        self._beside = beside
        self._told: dict[str, Told] = {}
        self._unanswered: dict[str, Mapping[str, Version]] = {}

    def unknown(self, names: Iterable[str]) -> None:
        """Take note of resources that the client may have, with TTLs that are not known.

        The client is told as soon as there is anything to tell: another TTL, or the content without
        one.
        """
        self._told |= dict.fromkeys(names, UNKNOWN)

    def told(self, resources: Iterable[Resource], now: float) -> dict[str, float]:
        """Take note of resources that the client is sent; return their TTLs."""
        ttls: dict[str, float] = {}
        for each in resources:
            if each.ttl is not None:
                ttls[each.name] = each.ttl
                before, told = self._told.get(each.name, UNKNOWN), Told.now(each.ttl, now)
                # If the client refuses this, what it has ends when it would have ended without it.
                self._told[each.name] = Told(each.ttl, min(told.again_at, before.again_at))
            elif self._told:
                self._told.pop(each.name, None)
        return ttls

    def end(self, content: TypeSnapshot) -> bool:
        """Owe the client the resources that no longer have a TTL; tell whether there are any.

        Until such a resource is sent, it is kept alive with its last TTL.
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
        """Return the TTLs of the resources to keep alive now, and count them as told."""
        if self._must_wait():
            return NOTHING
        due: dict[str, float] = {}
        for name, ttl in self._ttls(content).items():
            told = self._told.get(name)
            if self._version(name) is None:
                self._told.pop(name, None)
            elif told is None or told.ttl != ttl or now >= told.again_at:
                due[name] = ttl
                self._told[name] = Told.now(ttl, now)
        return due

    def next_beat(self, now: float) -> float | None:
        """Return the moment at which the next heartbeat is due; None if there is none."""
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

    def repeated(
        self, names: AbstractSet[str], content: TypeSnapshot, now: float
    ) -> Mapping[str, float]:
        """Take note of resources that are sent again as the client has them; return their TTLs."""
        ttls = {name: ttl for name, ttl in self._ttls(content).items() if name in names}
        self._told |= {name: Told.now(ttl, now) for name, ttl in ttls.items()}
        return ttls

    def answered(self, nonce: str) -> bool:
        """Tell whether a request with this nonce answers a heartbeat."""
        return nonce in self._unanswered

    def settle(self, nonce: str, error: ErrorDetail | None) -> tuple[Nacked, ...]:
        """Take the client's answer to a heartbeat; return the events in it."""
        kept = self._unanswered.pop(nonce)
        if error is None:
            return ()
        # The client may have refused this content itself and have what it had before. It was told
        # no TTL of that.
        lost = {name for name, version in kept.items() if self._exchange.has(name) == version}
        self._exchange.lose(lost)
        for name in self._told.keys() & (kept.keys() - lost):
            self._told[name] = Told(self._told[name].ttl, AT_ONCE)
        return (Nacked(self._url, nonce, {}, error),)

    def _ttls(self, content: TypeSnapshot) -> Mapping[str, float]:
        """Return the TTLs that there are, and of all other resources those told last."""
        return {name: told.ttl for name, told in self._told.items()} | {**content.ttls}

    def _must_wait(self) -> bool:
        return not self._beside and self._exchange.in_flight is not None

    def _version(self, name: str) -> Version | None:
        """Return the version that the client has of a name once it accepts what is in flight."""
        in_flight = self._exchange.in_flight or {}
        return in_flight[name] if name in in_flight else self._exchange.has(name)
