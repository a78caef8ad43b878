"""The changed resources of one type, of which a delta response consists.

The rule of this module: a client is told about a name if it is owed that, or if it has something
else than it should have. It is not told yet if it would refuse the same content again, if the
content is still being made, or if this would remove a resource that the client has to keep for now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from control_plane.xds.exchange import Exchange
from control_plane.xds.meaning import Meaning
from control_plane.xds.resource import NO_NAMES, NOTHING, Resource, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription
from control_plane.xds.unsettled import round_from, turn_of


@dataclass(frozen=True, slots=True)
class Increment:
    """What a response would have.

    Attributes:
        removed: the names that the response reports as removed.
        unresolved: the names that the response reports as missing in another way, because Envoy
            holds back requests for them.
        news: what is news to the client: the version of each name, None if it does not exist. The
            client's answer refers to these.
        answered: the names and aliases whose meaning the response tells.
        turn: the names that the response is made for, in order.
    """

    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    unresolved: tuple[str, ...]
    news: Mapping[str, Version | None]
    answered: AbstractSet[str]
    turn: tuple[str, ...]


NOTHING_NEW = Increment((), (), (), NOTHING, NO_NAMES, ())


class IncrementalState:
    """What one client is owed of one type."""

    __slots__ = ("_exchange", "_meaning", "_subscription", "_type")

    def __init__(
        self,
        resource_type: ResourceType,
        subscription: Subscription,
        exchange: Exchange,
        meaning: Meaning,
    ) -> None:
        """Start with a client that asked for nothing.

        Args:
            resource_type: the type.
            subscription: what the client asks for.
            exchange: what the client has.
            meaning: what the client means by the names that it gives.
        """
        self._type = resource_type
        self._subscription = subscription
        self._exchange = exchange
        self._meaning = meaning

    def offer(self, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> Increment:
        """Return what a response would have now.

        Args:
            snapshot: what the node should have of the type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        due = self.due(snapshot, now, withdraw=withdraw)
        turn = turn_of(due, self._type.batch, self._exchange.was_refused_so)
        if not turn:
            return NOTHING_NEW
        meaning = self._meaning
        found = {name: each for name in turn if (each := meaning.find(name, snapshot)) is not None}
        resources = {each.name: each for each in found.values()}
        gone = [name for name in turn if name not in found]
        # A resource that the client may have is removed first.
        may_have = self._exchange.may_have
        unresolved = tuple(name for name in meaning.awaited(gone) if not may_have(name))
        # A resource answers its name and all of its aliases that the client asked for.
        answered = found | {
            name: each
            for name, each in meaning.other_names(resources.values(), snapshot)
            if self._may_tell(name, snapshot, now, withdraw=withdraw)
        }
        news: dict[str, Version | None] = {name: each.version for name, each in resources.items()}
        asked = self._subscription.names
        news |= {name: answered[name].version for name in sorted(answered) if name in asked}
        news |= dict.fromkeys(gone)
        removed = tuple(name for name in gone if name not in unresolved)
        return Increment(
            tuple(resources.values()), removed, unresolved, news, answered.keys(), tuple(turn)
        )

    def due(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Iterator[tuple[str, Version | None]]:
        """Yield the news for the client: the version of each name, None if it does not exist.

        Args:
            snapshot: what the node should have of the type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        for name in round_from(self._unsettled(snapshot), self._exchange.last_name):
            if self._may_tell(name, snapshot, now, withdraw=withdraw):
                yield name, self._target(name, snapshot)

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has exactly what it should have."""
        return not self._unsettled(snapshot)

    def _unsettled(self, snapshot: TypeSnapshot) -> Sequence[str]:
        whole, among = self._meaning.all_of_interest, self._meaning.among
        return self._exchange.unsettled.look(snapshot, whole, among, self._is_unsettled)

    def _is_unsettled(self, name: str, snapshot: TypeSnapshot) -> bool:
        return self._meaning.is_of_interest(name, snapshot) and (
            self._differs(name, snapshot)
            or self._target(name, snapshot) != self._exchange.has(name)
        )

    def _may_tell(self, name: str, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> bool:
        """Tell whether the client has to be told about a name, and may be told now."""
        exchange, version = self._exchange, self._target(name, snapshot)
        return (
            self._differs(name, snapshot)
            and exchange.may_send(name, version, now)
            and (withdraw or version is not None or not exchange.may_have(name))
            and not (name in snapshot.aliases and self._was_refused(name, snapshot, now))
        )

    def _was_refused(self, alias: str, snapshot: TypeSnapshot, now: float) -> bool:
        """Tell whether the client refused, under any name, what an alias now means to it."""
        resource, exchange = self._meaning.find(alias, snapshot), self._exchange
        if resource is None or exchange.is_asked_anew(alias):
            return False
        return not exchange.may_send(resource.name, resource.version, now)

    def _differs(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has to be told about a name, now or later."""
        is_withheld = name in snapshot.pending or name in snapshot.recorded
        if is_withheld and snapshot.find(name) is None:
            return False
        exchange = self._exchange
        return name in exchange.owed or exchange.has(name) != self._target(name, snapshot)

    def _target(self, name: str, snapshot: TypeSnapshot) -> Version | None:
        resource = self._meaning.find(name, snapshot)
        return resource.version if resource is not None else snapshot.recorded.get(name)
