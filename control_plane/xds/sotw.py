"""The state-of-the-world machine: what one stream owes its client for one type.

The rules of the protocol, in the order in which this module keeps them (quotations are from the xDS
protocol):

1. The first request is initial whatever nonce it carries, because a nonce "is valid only in the
   context of an individual xDS stream; it does not survive stream restarts" (Envoy sends old ones:
   issues 15767, 30155, 30206).
2. "NACK signifies unsuccessful configuration and is indicated by the presence of the error_detail
   field": no other request is a NACK. It is never answered with the same content.
3. "The management server should not send a DiscoveryResponse for any DiscoveryRequest that has a
   stale nonce": names that only a stale request asks for wait for a request that is not stale, or
   leave with the next change.
4. The names of every request are taken, even of a stale one. "Within a stream, new
   DiscoveryRequests supersede any prior DiscoveryRequests having the same resource type."
5. "When the client sends a new request that changes the set of resources being requested, the
   server must resend any newly requested resources, even if it previously sent those resources",
   and even if the client refused them (``Refusals.ask``).
6. Listener and Cluster responses, and for Envoy those with scoped routes, have "the complete state
   of the world" (``CompleteState`` says what that is after a NACK); the first one is sent even if
   it is empty. Responses of other types are partial and never empty, because for those types "an
   empty DiscoveryResponse is effectively a no-op". One exception: if a client takes errors, a
   response that has only errors may tell it that names it asked for do not exist.
7. A client is not sent again what it has. "If the management server provides the same set of
   resources rather than waiting for a change to occur, it will cause needless work".

``CompleteState`` or ``PartialState`` works out the content of a response.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from control_plane.xds.complete import CompleteState
from control_plane.xds.events import Event, Stale, subscription_events
from control_plane.xds.exchange import Exchange, NonceFactory
from control_plane.xds.heartbeat import Heartbeats
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.partial import PartialState
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import (
    NO_NAMES,
    NOTHING,
    WILDCARD,
    Resource,
    Version,
    version_of_all,
    versions_in,
)
from control_plane.xds.resource_error import errors_of
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription, stands_for_several


class SotwMachine:
    """One type on one SotW stream.

    Attributes:
        type: the resource type.
        subscription: what the client asks for.
        exchange: what the client has, and the response that awaits its answer.
        heartbeats: the TTLs that the client was told; None if it does not support TTLs.
        tells_errors: whether the client is told why it is not sent what it asks for.
        names: the resource names of the last request; None before the first one.
        deferred: the names that only stale requests asked for.
    """

    __slots__ = (
        "_new_nonce",
        "_refusals",
        "_responses",
        "_resumed_version",
        "_state",
        "deferred",
        "exchange",
        "heartbeats",
        "names",
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
        self._refusals = refusals
        self.heartbeats: Heartbeats | None = None
        self.tells_errors = tells_errors
        self.names: tuple[str, ...] | None = None
        self.deferred: set[str] = set()
        self._new_nonce = new_nonce
        self._resumed_version = ""
        asked, has, deferred = self.subscription, self.exchange, self.deferred
        self._state = CompleteState(asked, has, deferred)
        self._responses: CompleteState | PartialState = self._state
        if not resource_type.complete:
            self._responses = PartialState(
                resource_type, asked, has, deferred, tells_errors=tells_errors
            )

    def receive(self, request: SotwRequest, now: float) -> tuple[Event, ...]:
        """Take a request; return the events in it."""
        events: list[Event] = []
        stale, answered = False, NO_NAMES
        if self.names is None:  # rule 1
            self._resumed_version = request.version_info
            if request.version_info and not self.type.complete:
                self.exchange.had(request.resource_names)
        elif self.exchange.answered(request.response_nonce):  # rule 2
            events.append(settled := self.exchange.settle(request.error_detail, now))
            answered = NO_NAMES.union(settled.versions)
            if self.type.complete:
                self._state.settled(settled, now)
        elif self.heartbeats is not None and self.heartbeats.answered(request.response_nonce):
            events.extend(self.heartbeats.settle(request.response_nonce, request.error_detail))
        elif (last := self.exchange.last_nonce) and request.response_nonce not in ("", last):
            stale = True  # rule 3
            events.append(Stale(self.type.url, request.response_nonce))
        return *events, *self._take_names(request.resource_names, answered, stale=stale)

    def _take_names(
        self, names: tuple[str, ...], answered: frozenset[str], *, stale: bool
    ) -> Sequence[Event]:
        """Take the names of a request, and owe the newly requested ones (rules 3 to 5)."""
        added = dropped = NO_NAMES
        is_first = self.names is None
        if names != self.names:
            before = self.subscription.asked()
            added = self.subscription.replace(names)
            dropped = before - self.subscription.asked()
            self.names = names
        self._refusals.ask(added, anew=not is_first)
        asked = added | self.exchange.known_in(added & self.subscription.globs)
        self.exchange.unsettled.touch_asked(asked | dropped)
        if stale:
            self.deferred |= asked
        else:
            self.exchange.owe(asked | self.deferred)
            self.deferred.clear()
        if not self.type.complete:
            # No partial response answers a wildcard.
            self.exchange.pay({WILDCARD})
        if dropped or answered:
            self.deferred -= {name for name in self.deferred if not self.subscription.wants(name)}
            among = None if any(map(stands_for_several, dropped)) else dropped | answered
            self.exchange.retain(self.subscription.wants, among)
            self._state.retain(self.subscription.wants)
        return subscription_events(self.type.url, added, dropped)

    def asked(self) -> set[str]:
        """Return the names that are remembered only because the client asked for them."""
        return self.subscription.names

    def wants(self, name: str, _: TypeSnapshot) -> bool:
        """Tell whether the client is subscribed to a resource of this name."""
        return self.subscription.wants(name)

    def absent(self, snapshot: TypeSnapshot) -> set[str]:
        """Return the requested names that neither exist nor will exist in a moment."""
        return {name for name in self.subscription.names if not snapshot.expects(name)}

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> None:
        """Owe the client again what it waits for after it was sent resources of another type.

        A complete type needs none of this, because the client repeats its request instead
        (``Ordering.is_asked_again``).

        Args:
            names: the names that the client waits for.
            there: the names of this type that exist.
        """
        if not self.type.complete:
            self.exchange.refresh(names, there)

    def forget_gone(self, snapshot: TypeSnapshot) -> None:
        """Forget refusals of names that are gone, if it is known what the client has."""
        if self._state.is_known() or not self.type.complete:
            self.exchange.forget_gone(lambda n: n in self.subscription.names or snapshot.knows(n))

    def resume(self, snapshot: TypeSnapshot, now: float, *, awaited: bool) -> None:
        """Send nothing to a reconnected client that states that it has this very version.

        Args:
            snapshot: what the node should have of this type.
            now: seconds of the server's monotonic clock.
            awaited: whether the client may wait for resources of this type although it has them. If
                there are none, such a client is sent nothing either: it might not answer.
        """
        version, self._resumed_version = self._resumed_version, ""
        states_all = self.type.complete and version == snapshot.version
        states_all &= not (awaited and snapshot.resources)
        # TTLs that an earlier stream told the client still run, even for resources that have none
        # now.
        may_end = self.heartbeats is not None and len(snapshot.ttls) < len(snapshot.resources)
        if states_all and not may_end and self.subscription.asked() == {WILDCARD}:
            self._state.resume(snapshot.resources, now)

    def reply(self, snapshot: TypeSnapshot, now: float, *, withdraw: bool) -> Reply | None:
        """Return the response to send now, and remember it as in flight.

        Args:
            snapshot: what the node should have of this type.
            now: seconds of the server's monotonic clock.
            withdraw: whether anything may be taken from the client now.
        """
        if self.exchange.in_flight is not None:
            return None
        offer = self._responses.offer(snapshot, now, withdraw=withdraw)  # rules 6 and 7
        if offer is None:
            return None
        self.exchange.owe(self.deferred)
        self.deferred.clear()
        version = self._version(snapshot, offer.resources)
        if self.type.complete:
            self._state.sent(offer)
        ttls = NOTHING if self.heartbeats is None else self.heartbeats.told(offer.resources, now)
        errors = NOTHING
        if self.tells_errors:
            gone = {name for name, version in offer.news.items() if version is None}
            errors = errors_of(sorted(gone & self.absent(snapshot)), snapshot)
        reply = Reply(
            self.type.url, self._new_nonce(), version, offer.resources, ttls=ttls, errors=errors
        )
        self.exchange.send(reply.nonce, offer.news, now, turn=tuple(offer.news))
        self.exchange.pay({WILDCARD})
        self.exchange.pay(self.subscription.globs.intersection(snapshot.collections))
        return reply

    def beat(self, snapshot: TypeSnapshot, now: float) -> Reply | None:
        """Return the heartbeat to send now; it keeps resources alive and changes nothing else."""
        heartbeats = self.heartbeats
        if heartbeats is None or not (due := heartbeats.due(snapshot, now)):
            return None
        kept = self._responses.kept(snapshot, due)
        if not self.type.complete:
            heartbeats.unknown(due.keys() - {each.name for each in kept})
        if not kept:
            return None
        nonce = self.exchange.last_nonce = self._new_nonce()
        heartbeats.beat(nonce, due.keys())
        ttls = heartbeats.repeated({each.name for each in kept}, snapshot, now)
        version = self._version(snapshot, kept)
        return Reply(self.type.url, nonce, version, kept, ttls=ttls, is_heartbeat=True)

    def _version(self, snapshot: TypeSnapshot, resources: Iterable[Resource]) -> Version:
        """Return the version of a response; a complete one may differ from the snapshot's."""
        return version_of_all(versions_in(resources)) if self.type.complete else snapshot.version

    def due(
        self, snapshot: TypeSnapshot, now: float, *, withdraw: bool
    ) -> Mapping[str, Version | None]:
        """Return the news for the client; ``*`` stands for the first answer to a wildcard."""
        return self._responses.due(snapshot, now, withdraw=withdraw)

    def takes_everything(self) -> bool:
        """Tell whether the response in flight leaves the client with nothing."""
        in_flight = self.type.complete and self.exchange.in_flight is not None
        return in_flight and self._state.sent_nothing()

    def missing(self, snapshot: TypeSnapshot) -> frozenset[str]:
        """Return the names that the client wants and whose content has to be made anew."""
        return frozenset(name for name in snapshot.recorded if self.subscription.wants(name))

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has exactly what it should have, and nothing is in flight."""
        if self.exchange.in_flight is not None or self.missing(snapshot):
            return False
        return self._responses.in_step(snapshot)
