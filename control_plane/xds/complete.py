"""The complete state of one type, as a state-of-the-world response has it.

The rule of this module: absence from a complete response is deletion, and one refused resource has
the whole response refused. So a response has all that the client should have; but in place of what
it refused, or must not lose yet, it has what the client had of that before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from control_plane.xds.exchange import Accepted, Exchange
from control_plane.xds.resource import NOTHING, WILDCARD, Resource, Version
from control_plane.xds.snapshot import TypeSnapshot


@dataclass(frozen=True, slots=True)
class Offer:
    """What a response would have.

    Attributes:
        news: what of it the client does not have, or is owed: the version of each name, None for
            its absence. The client's answer concerns these.
        reasons: what it should be sent for, in the same form.
    """

    resources: tuple[Resource, ...]
    news: Mapping[str, Version | None]
    reasons: Mapping[str, Version | None]


class CompleteState:
    """What one client was offered of one type, and what it took of that."""

    __slots__ = ("_exchange", "_had", "_in_flight", "_sent")

    def __init__(self, exchange: Exchange) -> None:
        """Start with a client of which nothing is known."""
        self._exchange = exchange
        self._in_flight: Mapping[str, Resource] = NOTHING
        self._sent: Mapping[str, Resource] = NOTHING
        self._had: Mapping[str, Resource] | None = None

    def sent(self, offer: Offer) -> None:
        """Remember what the response in flight has."""
        self._in_flight = self._sent = {each.name: each for each in offer.resources}

    def sent_nothing(self) -> bool:
        """Tell whether the last response had no resource."""
        return not self._in_flight

    def accepted(self) -> None:
        """Take note that the client has what was sent last, and nothing else."""
        self._had = self._in_flight

    def refused(self, names: Collection[str]) -> None:
        """Take note that the client refused a response with these.

        If it accepted none before, it may have others of the same names from an earlier stream.
        """
        if self._had is None:
            self._exchange.had(names)
            self._exchange.owe(names)

    def resume(self, resources: Mapping[str, Resource], now: float) -> None:
        """Take a client for one that has these from an earlier stream, and nothing else.

        "Servers may decide to optimize by not resending resources that the client had already seen
        on the previous stream [...] it is generally safe for servers to do this optimization for
        LDS and CDS when the only subscription is a wildcard subscription". It is not if the client
        refused some of it since, or may have what it refused: it states what it ACKed last.
        """
        if not self._exchange.was_refused(resources):
            for each in resources.values():
                self._exchange.accepted[each.name] = Accepted(each.version, now)
            self._had = resources
            self._exchange.pay(tuple(self._exchange.owed))

    def kept(self, snapshot: TypeSnapshot) -> tuple[Resource, ...]:
        """Return all that the client has, with the TTLs of now; nothing if that is not known."""
        current = snapshot.resources
        if self._had is None or self._exchange.is_left_open(current):
            return ()
        return tuple(
            current[name] if name in current and current[name].version == each.version else each
            for name, each in sorted(self._had.items())
        )

    def is_known(self) -> bool:
        """Tell whether all is known that the client has, but for what it may have besides."""
        return self._had is not None

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget what the client gave up: it does not have that any more.

        What it gives up while a response is in flight, and asks for again, it gets from that.
        """
        self._sent = {name: each for name, each in self._sent.items() if wanted(name)}
        if self._had is not None:
            self._had = {name: each for name, each in self._had.items() if wanted(name)}

    def offer(
        self,
        wanted: Iterable[Resource],
        snapshot: TypeSnapshot,
        now: float,
        *,
        owed: AbstractSet[str],
        withdraw: bool,
    ) -> Offer:
        """Return what a response would have now.

        Args:
            wanted: what the client should have, of what it asked for.
            snapshot: all that its node should have.
            now: seconds of the server's monotonic clock.
            owed: names that count as news though the client may have them.
            withdraw: whether anything may be taken from the client now.
        """
        state = {each.name: each for each in wanted}
        kept = self._kept(state.keys(), snapshot, now, withdraw=withdraw)
        for name, resource in list(state.items()):
            if not self._exchange.may_send(name, resource.version, now):
                self._replace_refused(state, name)
        state |= kept
        news: dict[str, Version | None] = {
            name: each.version
            for name, each in state.items()
            if name in owed or self._exchange.has(name) != each.version
        }
        gone = (self._exchange.accepted.keys() | owed) - state.keys() - {WILDCARD}
        # What is being made is no reason to say that it is not there; but a response says so.
        news |= dict.fromkeys(gone)
        being_made = gone & (snapshot.pending | snapshot.recorded.keys())
        reasons = {
            name: version
            for name, version in news.items()
            if name not in kept
            and name not in being_made
            and self._exchange.may_send(name, version, now)
        }
        return Offer(tuple(state[name] for name in sorted(state)), news, reasons)

    def _kept(
        self, target: AbstractSet[str], snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> dict[str, Resource]:
        """Return what the client should not have any more, but will or must not lose yet."""
        known = {**self._sent, **(self._had or {})}
        return {
            name: known[name]
            for name in (self._exchange.accepted.keys() | self._exchange.owed) - target
            if name in known
            and (
                not withdraw
                or name in snapshot.pending
                or name in snapshot.recorded
                or not self._exchange.may_send(name, None, now)
            )
        }

    def _replace_refused(self, state: dict[str, Resource], name: str) -> None:
        if self._had is None or name in self._exchange.owed:
            return  # what the client has of it is not known, and to leave it out is to delete it
        if name in self._had:
            state[name] = self._had[name]
        else:
            del state[name]
