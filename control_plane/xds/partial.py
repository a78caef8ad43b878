"""A part of the resources of one type, as a state-of-the-world response contains it for most types.

The rule of this module: a response has what the client lacks. It is never empty, because for these
types "an empty DiscoveryResponse is effectively a no-op". One exception: if a client takes errors,
a response that has only errors may tell it that names it asked for do not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from control_plane.xds.exchange import Exchange
from control_plane.xds.offer import Offer, is_deferred
from control_plane.xds.resource import NOTHING, Resource, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription
from control_plane.xds.unsettled import round_from, turn_of


class PartialState:
    """What one client is owed of one type."""

    __slots__ = ("_deferred", "_exchange", "_subscription", "_tells_errors", "_type")

    def __init__(
        self,
        resource_type: ResourceType,
        subscription: Subscription,
        exchange: Exchange,
        deferred: AbstractSet[str],
        *,
        tells_errors: bool,
    ) -> None:
        """Start with a client that asked for nothing.

        Args:
            resource_type: the type.
            subscription: what the client asks for.
            exchange: what the client has.
            deferred: the names that only stale requests asked for.
            tells_errors: whether the client is told which names do not exist.
        """
        self._type = resource_type
        self._subscription = subscription
        self._exchange = exchange
        self._deferred = deferred
        self._tells_errors = tells_errors

    def offer(self, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> Offer | None:
        """Return what a response would have now; None if there is no reason for one.

        Args:
            snapshot: what the node should have of the type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        told = self._told(snapshot, now, withdraw=withdraw)
        turn = turn_of(told, self._type.batch, self._exchange.was_refused_so)
        if not turn or (self._deferred and not self.due(snapshot, now, withdraw=withdraw)):
            return None
        resources = tuple(snapshot.resources[name] for name in turn if turn[name] is not None)
        return Offer(resources, turn, turn)

    def due(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Mapping[str, Version | None]:
        """Return the news for the client; nothing if only stale requests asked for all of it."""
        told, accepted = dict(self._told(snapshot, now, withdraw=withdraw)), self._exchange.accepted
        is_reason = any(not is_deferred(name, self._deferred, accepted) for name in told)
        return told if is_reason else NOTHING

    def kept(self, snapshot: TypeSnapshot, names: Iterable[str]) -> tuple[Resource, ...]:
        """Return those of the named resources of which the client has the newest content."""
        found = [snapshot.resources[name] for name in names if name in snapshot.resources]
        return tuple(each for each in found if self._exchange.has(each.name) == each.version)

    def _told(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Iterator[tuple[str, Version | None]]:
        """Yield the news for the client: the version of each name, None if it does not exist."""
        exchange = self._exchange
        for name in round_from(self._unsettled(snapshot), exchange.last_name):
            version = _target(name, snapshot)
            may_tell = withdraw or version is not None or not exchange.may_have(name)
            if may_tell and exchange.may_send(name, version, now):
                yield name, version

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has what it should have, even if it is owed that again."""
        unsettled, has = self._unsettled(snapshot), self._exchange.has
        return all(has(name) == _target(name, snapshot) for name in unsettled)

    def _unsettled(self, snapshot: TypeSnapshot) -> Sequence[str]:
        unsettled, among = self._exchange.unsettled, self._subscription.among
        return unsettled.look(snapshot, self._all_of_interest, among, self._is_unsettled)

    def _all_of_interest(self, snapshot: TypeSnapshot) -> Iterable[str]:
        return self._subscription.names.union(self._subscription.among(snapshot.resources.keys()))

    def _is_unsettled(self, name: str, snapshot: TypeSnapshot) -> bool:
        if not self._is_told_of(name, snapshot):
            return False
        is_owed = name in self._exchange.owed or name in self._deferred
        return is_owed or self._exchange.has(name) != _target(name, snapshot)

    def _is_told_of(self, name: str, snapshot: TypeSnapshot) -> bool:
        if name in snapshot.resources:
            return self._subscription.wants(name)
        is_missed = self._tells_errors and name in self._subscription.names
        return is_missed and not snapshot.expects(name)


def _target(name: str, snapshot: TypeSnapshot) -> Version | None:
    resource = snapshot.resources.get(name)
    return None if resource is None else resource.version
