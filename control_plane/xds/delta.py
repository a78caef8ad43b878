"""The delta machine: what one incremental stream owes its client for one type.

The rules of the protocol, in the order in which this module keeps them (quotations are from the xDS
protocol):

1. ``initial_resource_versions`` count in the first request only: "the reconnecting client must
   provide the server with all resource names it is interested in", "no state is assumed to be
   preserved".
2. "ACK or NACK is determined by the absence or presence of error_detail." A NACK is never answered
   with the same content. If several resources were refused together, each is tried again by itself.
3. "The server must honor changes to the subscription state even if the nonce is stale. The nonce
   may be used to correlate an ack/nack with a server response, but should *not* be used to reject
   stale requests."
4. The server owes an answer for every name in ``resource_names_subscribe``, even for a resource
   that the client has: "the server *must* still provide those resources in the response; [...] the
   client may have 'forgotten' those resources". It may also have refused them (``Refusals.ask``).
   The one exception is ``recorded`` content, whose private key is gone: a client that states its
   version in the first request is left alone, and for any other client the content has to be made
   anew.
5. "When a client has a wildcard subscription [...] *and* a subscription to another specific
   resource name", and then unsubscribes from the name, the server tells it about the name "in
   either the removed_resources field [...] or in the resources field".
6. "When a resource subscribed to by a client does not exist, the server will send [...] that
   resource's name in the removed_resources field", and sends the resource "if one of those
   resources springs into existence later". Nothing is sent about a name that is ``pending``: Envoy
   would open the listener and reset connections. If both a name and an alias of one resource are
   due, the response has the resource once, because "it is an error for a server to send a single
   response that contains the same resource name twice".
7. The first answer to a wildcard is sent even if it is empty; otherwise Envoy waits for it in vain.
   The first answer to a glob collection has only the members that the client lacks, so it may be
   empty too. An empty collection is reported as missing by its own name, like any other name.
8. Apart from these answers, only changes are sent.
9. A client that asks for a resource on demand must not wait in vain. If the resource does not
   exist, "the resources entry for that virtual host has the name and aliases set to the requested
   host entry and the resource unpopulated" (Envoy, "Virtual Host Discovery Service"). Until it gets
   this entry, Envoy holds back an HTTP request; ``removed_resources`` tells it only that a resource
   that it has is gone.

``Meaning`` knows which resources the client means by its names.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from collections.abc import Set as AbstractSet

from control_plane.xds.events import Event, Stale, subscription_events
from control_plane.xds.exchange import Accepted, Exchange, NonceFactory
from control_plane.xds.heartbeat import Heartbeats
from control_plane.xds.incremental import IncrementalState
from control_plane.xds.meaning import Meaning
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Reply
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import NO_NAMES, NOTHING, WILDCARD, Version
from control_plane.xds.resource_error import errors_of
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription, SubscriptionChange


class DeltaMachine:
    """One type on one delta stream.

    Attributes:
        type: the resource type.
        subscription: what the client asks for.
        exchange: what the client has, and the response that awaits its answer.
        heartbeats: the TTLs that the client was told; None if it does not support TTLs.
        tells_errors: whether the client is told why it is not sent what it asks for.
    """

    __slots__ = (
        "_meaning",
        "_new_nonce",
        "_started",
        "_state",
        "_stated",
        "exchange",
        "heartbeats",
        "subscription",
        "tells_errors",
        "type",
    )

    def __init__(
        self,
        resource_type: ResourceType,
        refusals: Refusals,
        new_nonce: NonceFactory,
        *,
        tells_errors: bool,
    ) -> None:
        """Start before the client's first request of this type."""
        self.type = resource_type
        self.subscription = Subscription()
        self.exchange = Exchange(resource_type, refusals)
        self._new_nonce = new_nonce
        self._started = False
        self._stated = NO_NAMES
        self.heartbeats: Heartbeats | None = None
        self.tells_errors = tells_errors
        self._meaning = Meaning(resource_type, self.subscription, self.exchange)
        self._state = IncrementalState(
            resource_type, self.subscription, self.exchange, self._meaning
        )

    def receive(self, request: DeltaRequest, now: float) -> tuple[Event, ...]:
        """Take a request; return the events in it."""
        events: list[Event] = []
        first, self._started = not self._started, True
        answered: AbstractSet[str] = NO_NAMES
        if first:  # rule 1
            self._stated = frozenset(request.initial_resource_versions) or NO_NAMES
            for name, version in request.initial_resource_versions.items():
                self.exchange.accepted[name] = Accepted(Version(version), now)
            self._meaning.stated(self._stated)
            if self.heartbeats is not None:
                self.heartbeats.unknown(self._stated)
        elif self.exchange.answered(request.response_nonce):  # rule 2
            events.append(settled := self.exchange.settle(request.error_detail, now))
            answered = settled.versions.keys()
            self._meaning.settled()
        elif self.heartbeats is not None and self.heartbeats.answered(request.response_nonce):
            events.extend(self.heartbeats.settle(request.response_nonce, request.error_detail))
        elif request.response_nonce not in ("", self.exchange.last_nonce):  # rule 3
            events.append(Stale(self.type.url, request.response_nonce))
        change = self.subscription.change(request.subscribe, request.unsubscribe, first=first)
        self._take(change, first=first)
        if first or change.dropped_globs or WILDCARD in change.dropped:
            self._meaning.retain(None)
        elif answered or change.dropped:
            self._meaning.retain(change.dropped.union(answered))
        return *events, *subscription_events(self.type.url, change.added, change.dropped)

    def _take(self, change: SubscriptionChange, *, first: bool) -> None:
        """Owe the client an answer for the names it subscribed to or gave up (rules 4, 5 and 7)."""
        exchange, asked = self.exchange, change.added
        exchange.unsettled.touch_asked(asked | change.dropped)
        if asked and not first:
            if WILDCARD in asked:
                asked |= exchange.known()
            if self.subscription.globs:
                asked |= exchange.known_in(asked & self.subscription.globs)
            self._stated = self._stated - asked or NO_NAMES
        exchange.ask(asked, anew=not first)
        # Of these, only names that a wildcard still covers stay owed: ``retain`` drops the rest.
        exchange.owe(change.dropped)
        if change.dropped_globs:
            exchange.pay(change.dropped_globs)
            exchange.owe(exchange.known_in(change.dropped_globs))
        exchange.lose(change.dropped)
        self._meaning.given_up(change.dropped)

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> None:
        """Owe the client again what it waits for after it was sent resources of another type.

        Args:
            names: the names that the client waits for. For a type that is ``part_of`` another,
                these are names of that other type.
            there: the names of this type that exist.
        """
        self._meaning.refresh(names, there)

    def forget_gone(self, snapshot: TypeSnapshot) -> None:
        """Forget the refusals of names that are gone, once the client has nothing of them."""
        self.exchange.forget_gone(lambda n: n in self.subscription.names or snapshot.knows(n))

    def wants(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client is subscribed to a resource, by its name or by an alias."""
        return self._meaning.wants(name, snapshot)

    def asked(self) -> set[str]:
        """Return the names that are remembered only because the client gave them."""
        stated = self._stated & self.exchange.accepted.keys()
        return self.subscription.names | self.exchange.owed | stated

    def reply(self, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> Reply | None:
        """Return the response to send now, and remember it as in flight.

        Args:
            snapshot: what the node should have of this type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        if self.exchange.in_flight is not None:
            return None
        offer = self._state.offer(snapshot, now, withdraw=withdraw)  # rules 6 and 8
        if not offer.turn and not self._awaits_all(snapshot):
            return None
        heartbeats = self.heartbeats
        reply = Reply(
            self.type.url,
            self._new_nonce(),
            snapshot.version,
            offer.resources,
            offer.removed,
            offer.unresolved,
            NOTHING if heartbeats is None else heartbeats.told(offer.resources, now),
            errors=self._errors(offer.removed, snapshot) if self.tells_errors else NOTHING,
        )
        awaited = self._meaning.awaited(offer.removed)
        things = len(offer.resources) + len(offer.removed) + len(offer.unresolved)
        self.exchange.send(reply.nonce, offer.news, now, turn=offer.turn, things=things)
        self.exchange.pay({WILDCARD, *offer.answered})
        self.exchange.pay(self.subscription.globs.intersection(snapshot.collections))
        self.exchange.owe(awaited)  # rule 9: a removal does not end the client's wait
        self._meaning.sent(offer.resources, {*offer.news, *offer.answered})
        return reply

    def _errors(self, removed: Iterable[str], snapshot: TypeSnapshot) -> Mapping[str, ErrorDetail]:
        """Return the reasons why names that the client asked for are reported as removed."""
        return errors_of(filter(self.subscription.names.__contains__, removed), snapshot)

    def beat(self, snapshot: TypeSnapshot, now: float) -> Reply | None:
        """Return the heartbeat to send now; it may leave while a response is in flight."""
        heartbeats = self.heartbeats
        if heartbeats is None or not (due := heartbeats.due(snapshot, now)):
            return None
        nonce = self._new_nonce()
        kept = heartbeats.beat(nonce, due.keys())
        return Reply(
            self.type.url, nonce, snapshot.version, (), ttls=due, kept=kept, is_heartbeat=True
        )

    def due(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Mapping[str, Version | None]:
        """Return the news for the client; ``*`` stands for the first answer to a wildcard."""
        due = dict(self._state.due(snapshot, now, withdraw=withdraw))
        return due | {WILDCARD: None} if self._awaits_all(snapshot) else due

    def _awaits_all(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether a wildcard or a glob is owed its first answer, even an empty one."""
        if WILDCARD in self.exchange.owed:
            return True
        return bool(self.subscription.globs) and self._meaning.awaits_members(snapshot)

    def missing(self, snapshot: TypeSnapshot) -> frozenset[str]:
        """Return the names that the client wants and whose content has to be made anew."""
        return frozenset(
            name
            for name, version in snapshot.recorded.items()
            if self.subscription.wants(name)
            and (self.exchange.has(name) != version or self._was_asked_again(name))
        )

    def _was_asked_again(self, name: str) -> bool:
        return name in self.exchange.owed and name not in self._stated

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has exactly what it should have, and nothing is in flight."""
        if self.exchange.in_flight is not None or self.missing(snapshot):
            return False
        return self._state.in_step(snapshot)
