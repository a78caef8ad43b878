"""The complete state of one type, as a state-of-the-world response contains it.

The rule of this module: a resource that is absent from a complete response is deleted, and a client
that refuses one resource refuses the whole response. So a response has every resource that the
client should have; but in place of a resource that the client refused, or must not lose yet, it has
what the client had of it before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from control_plane.xds.events import Acked, Nacked
from control_plane.xds.exchange import Accepted, Exchange
from control_plane.xds.offer import Offer, is_deferred
from control_plane.xds.resource import NOTHING, WILDCARD, Resource, Version, versions_in
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription


class CompleteState:
    """What one client is owed of one type, what it was sent, and what it accepted of that."""

    __slots__ = ("_deferred", "_exchange", "_had", "_in_flight", "_sent", "_subscription")

    def __init__(
        self, subscription: Subscription, exchange: Exchange, deferred: AbstractSet[str]
    ) -> None:
        """Start with a client of which nothing is known.

        Args:
            subscription: what the client asks for.
            exchange: what the client has.
            deferred: the names that only stale requests asked for.
        """
        self._subscription = subscription
        self._exchange = exchange
        self._deferred = deferred
        self._in_flight: Mapping[str, Resource] = NOTHING
        self._sent: Mapping[str, Resource] = NOTHING
        self._had: Mapping[str, Resource] | None = None

    def sent(self, offer: Offer) -> None:
        """Remember the content of the response in flight."""
        self._in_flight = self._sent = {each.name: each for each in offer.resources}

    def sent_nothing(self) -> bool:
        """Tell whether the last response had no resources."""
        return not self._in_flight

    def settled(self, answer: Acked | Nacked, now: float) -> None:
        """Take note of the client's answer, after the exchange did."""
        if isinstance(answer, Acked):
            # It may have given up some of this since, also of what was no news.
            wants = self._subscription.wants
            self._had = {name: each for name, each in self._in_flight.items() if wants(name)}
        elif not answer.versions:
            self._exchange.ask_for_all_later(answer.error, now)
        elif self._had is None:
            # The client may have other content of these names, from an earlier stream.
            self._exchange.had(answer.versions)
            self._exchange.owe(answer.versions)

    def resume(self, resources: Mapping[str, Resource], now: float) -> None:
        """Assume that the client has these resources from an earlier stream, and nothing else.

        "Servers may decide to optimize by not resending resources that the client had already seen
        on the previous stream [...] it is generally safe for servers to do this optimization for
        LDS and CDS when the only subscription is a wildcard subscription". It is not safe if the
        node has since refused some of these resources, or may have applied something that it
        refused: the client states the version that it ACKed last.
        """
        if not self._exchange.was_refused(resources):
            for each in resources.values():
                self._exchange.accepted[each.name] = Accepted(each.version, now)
            self._had = resources
            self._exchange.pay(tuple(self._exchange.owed))

    def kept(self, _: TypeSnapshot, _names: Iterable[str]) -> tuple[Resource, ...]:
        """Return all that the client has; nothing if that is not known for sure.

        In place of a resource that the client refused, this is what it had of it before.
        """
        if self._had is None or self._exchange.is_left_open():
            return ()
        return tuple(each for _, each in sorted(self._had.items()))

    def is_known(self) -> bool:
        """Tell whether the client's state is known, apart from content that it may have besides."""
        return self._had is not None

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget names that the client gave up, because it no longer has their resources.

        The response in flight stays as it is: if the client asks for such a name again in the
        meantime, it gets the resource with this response.
        """
        self._sent = {name: each for name, each in self._sent.items() if wanted(name)}
        if self._had is not None:
            self._had = {name: each for name, each in self._had.items() if wanted(name)}

    def offer(self, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> Offer | None:
        """Return what a response would have now; None if there is no reason to send one.

        Args:
            snapshot: what the node should have of the type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        exchange, owed = self._exchange, self._exchange.owed | self._deferred
        state = {each.name: each for each in self._subscription.wanted(snapshot)}
        kept = self._kept(state.keys(), snapshot, now, withdraw=withdraw)
        for name, resource in list(state.items()):
            if not exchange.may_send(name, resource.version, now):
                self._replace_refused(state, name)
        state |= kept
        news: dict[str, Version | None] = {
            name: each.version
            for name, each in state.items()
            if name in owed or exchange.has(name) != each.version
        }
        gone = (exchange.accepted.keys() | owed) - state.keys() - {WILDCARD}
        # A resource that is still being made is no reason to send a response without it; but a
        # response that is sent for another reason leaves it out.
        news |= dict.fromkeys(gone)
        being_made = gone & (snapshot.pending | snapshot.recorded.keys())
        reasons = {
            name: version
            for name, version in news.items()
            if name not in kept and name not in being_made and exchange.may_send(name, version, now)
        }
        is_awaited = WILDCARD in exchange.owed and exchange.may_send(WILDCARD, None, now)
        if not is_awaited and self._are_deferred(reasons):
            return None
        return Offer(tuple(state[name] for name in sorted(state)), news, reasons)

    def due(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Mapping[str, Version | None]:
        """Return the reasons to send a response; ``*`` if the client just awaits one."""
        offer = self.offer(snapshot, now, withdraw=withdraw)
        return NOTHING if offer is None else offer.reasons or {WILDCARD: None}

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has exactly what it should have, and is owed nothing."""
        wanted = versions_in(self._subscription.wanted(snapshot))
        has = {name: accepted.version for name, accepted in self._exchange.accepted.items()}
        return not self._exchange.owed and has == wanted

    def _are_deferred(self, names: Iterable[str]) -> bool:
        accepted = self._exchange.accepted
        return all(is_deferred(name, self._deferred, accepted) for name in names)

    def _kept(
        self, target: AbstractSet[str], snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> dict[str, Resource]:
        """Return the surplus resources that the client refuses to lose or must not lose yet."""
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
            return  # it is not known what the client has, and to leave it out would delete it
        if name in self._had:
            state[name] = self._had[name]
        else:
            del state[name]
