"""The resources of one type of which a delta response has those that changed.

The rule of this module: a client is told of a name if it is owed that, or has something else than
it should have. It is not told as long as it would refuse that again, or has to wait: for content
that is being made, and for the moment at which something may be taken from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from control_plane.xds.exchange import Exchange
from control_plane.xds.meaning import Meaning
from control_plane.xds.resource import Version
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.unsettled import round_from


class IncrementalState:
    """What one client is owed of one type."""

    __slots__ = ("_exchange", "_meaning")

    def __init__(self, meaning: Meaning, exchange: Exchange) -> None:
        """Start with a client that asked for nothing.

        Args:
            meaning: what it means by the names that it gives.
            exchange: what it has.
        """
        self._meaning = meaning
        self._exchange = exchange

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
            if self.may_tell(name, snapshot, now, withdraw=withdraw):
                yield name, self._target(name, snapshot)

    def may_tell(self, name: str, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> bool:
        """Tell whether the client has to be told of a name, and may be now."""
        exchange, version = self._exchange, self._target(name, snapshot)
        return (
            self._differs(name, snapshot)
            and exchange.may_send(name, version, now)
            and (withdraw or version is not None or not exchange.may_have(name))
            and not (name in snapshot.aliases and self._was_refused(name, snapshot, now))
        )

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
