"""The resources of one type of which a delta response has those that changed.

The rule of this module: a client is told of a name if it is owed that, or has something else than
it should have. It is not told as long as it would refuse that again, or has to wait: for content
that is being made, and for the moment at which something may be taken from it.
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
        removed: the names that it calls removed.
        unresolved: the names that it calls missing in another way, since Envoy holds back requests
            for them.
        news: what it tells anew: the version of each name, None for its absence. The client's
            answer concerns these.
        answered: the names, aliases included, of which it tells what they mean.
        turn: the names that it is made for, in their order.
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
            resource_type: of what type.
            subscription: what it asks for.
            exchange: what it has.
            meaning: what it means by the names that it gives.
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
        # What the client may have is taken from it first.
        may_have = self._exchange.may_have
        unresolved = tuple(name for name in meaning.awaited(gone) if not may_have(name))
        # A resource answers for its name and for all its aliases that the client gave.
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
        """Yield what responses would tell: the version of each name, None for its absence.

        Args:
            snapshot: what the node should have of the type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        for name in round_from(self._unsettled(snapshot), self._exchange.last_name):
            if self._may_tell(name, snapshot, now, withdraw=withdraw):
                yield name, self._target(name, snapshot)

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has all that it should have, and nothing else."""
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
        """Tell whether the client has to be told of a name, and may be now."""
        exchange, version = self._exchange, self._target(name, snapshot)
        return (
            self._differs(name, snapshot)
            and exchange.may_send(name, version, now)
            and (withdraw or version is not None or not exchange.may_have(name))
            and not (name in snapshot.aliases and self._was_refused(name, snapshot, now))
        )

    def _was_refused(self, alias: str, snapshot: TypeSnapshot, now: float) -> bool:
        """Tell whether the client refused, by whatever name, what it now means by an alias."""
        resource = self._meaning.find(alias, snapshot)
        return resource is not None and not self._exchange.may_send(
            resource.name, resource.version, now
        )

    def _differs(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has to be told of a name, once it may be."""
        is_withheld = name in snapshot.pending or name in snapshot.recorded
        if is_withheld and snapshot.find(name) is None:
            return False
        exchange = self._exchange
        return name in exchange.owed or exchange.has(name) != self._target(name, snapshot)

    def _target(self, name: str, snapshot: TypeSnapshot) -> Version | None:
        resource = self._meaning.find(name, snapshot)
        return resource.version if resource is not None else snapshot.recorded.get(name)
