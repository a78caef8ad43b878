"""The delta machine: what one incremental stream owes its client for one type.

The rules of the protocol, in the order in which this module keeps them (quotations are from the xDS
protocol):

1. ``initial_resource_versions`` count in the first request only: "the reconnecting client must
   provide the server with all resource names it is interested in", "no state is assumed to be
   preserved".
2. "The server must honor changes to the subscription state even if the nonce is stale. The nonce
   may be used to correlate an ack/nack with a server response, but should *not* be used to reject
   stale requests."
3. NACK means ``error_detail``, nothing else, and is never answered with the same content.
4. Every name in ``resource_names_subscribe`` is owed an answer, also one that the client has: "the
   server *must* still provide those resources in the response; [...] the client may have
   'forgotten' those resources". The one exception is content that is ``recorded``: its private key
   is gone, so it cannot be sent again.
5. "When a client has a wildcard subscription *and* a subscription to another specific resource
   name", giving up the name "must" be answered with it "in either the removed_resources field [...]
   or in the resources field".
6. "When a resource subscribed to by a client does not exist, the server will send [...] that
   resource's name in the removed_resources field", and sends the resource "if one of those
   resources springs into existence later". A name that is ``pending`` is neither: Envoy would open
   the listener and reset connections.
7. The first answer to a wildcard is sent even when it is empty, or Envoy waits for it in vain.
8. Nothing else is sent but what changed.
"""

from __future__ import annotations

from control_plane.xds.events import Event, Stale, Subscribed, Unsubscribed
from control_plane.xds.exchange import Accepted, Exchange, NonceFactory
from control_plane.xds.messages import DeltaRequest, Reply
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import WILDCARD, TypeSnapshot, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.subscription import Subscription, Turn


class DeltaMachine:
    """One type on one delta stream."""

    __slots__ = ("_new_nonce", "_owed", "_started", "exchange", "subscription", "type")

    def __init__(
        self, resource_type: ResourceType, refusals: Refusals, new_nonce: NonceFactory
    ) -> None:
        """Start before the client's first request of this type."""
        self.type = resource_type
        self.subscription = Subscription()
        self.exchange = Exchange(resource_type.url, refusals)
        self._new_nonce = new_nonce
        self._started = False
        self._owed: set[str] = set()

    def receive(self, request: DeltaRequest, now: float) -> tuple[Event, ...]:
        """Take a request; return what it told."""
        events: list[Event] = []
        first, self._started = not self._started, True
        if first:
            for name, version in request.initial_resource_versions.items():
                self.exchange.accepted[name] = Accepted(Version(version), now)
        elif self.exchange.answered(request.response_nonce):
            events.append(self.exchange.settle(request.error_detail, now))
        elif request.response_nonce:
            events.append(Stale(self.type.url, request.response_nonce))
        turn = self.subscription.change(request.subscribe, request.unsubscribe, first=first)
        self._take(turn)
        if turn.added:
            events.append(Subscribed(self.type.url, turn.added))
        if turn.dropped:
            events.append(Unsubscribed(self.type.url, turn.dropped))
        return tuple(events)

    def _take(self, turn: Turn) -> None:
        self._owed |= turn.added
        if self.subscription.wildcard:
            self._owed |= turn.dropped
        accepted = self.exchange.accepted
        for name in [name for name, has in accepted.items() if not self._remembers(name, has)]:
            del accepted[name]
        self._owed = {
            name
            for name in self._owed
            if (self.subscription.wildcard if name == WILDCARD else self.subscription.wants(name))
        }

    def _remembers(self, name: str, has: Accepted) -> bool:
        """Tell whether what the client was told of a name still matters.

        That a name does not exist is remembered only for those who asked for it by name.
        """
        if has.version is None:
            return name in self.subscription.names
        return self.subscription.wants(name)

    def owe(self, names: frozenset[str]) -> None:
        """Send these again even if unchanged: the client waits for them to warm what it got."""
        self._owed |= {name for name in names if self.subscription.wants(name)}

    def reply(self, snapshot: TypeSnapshot, now: float) -> Reply | None:
        """Return the response to send now, and remember it as in flight."""
        if not self._started or self.exchange.in_flight is not None:
            return None
        due = self._due(snapshot, now)
        if not due and WILDCARD not in self._owed:
            return None
        turn = self.exchange.take_turn(due, self.type.batch)
        # A name and an alias of one resource may both be due; "it is an error for a server to send
        # a single response that contains the same resource name twice".
        found = {name: snapshot.find(name) for name in turn}
        resources = {each.name: each for each in found.values() if each is not None}
        removed = tuple(name for name, each in found.items() if each is None)
        versions: dict[str, Version | None] = {
            name: each.version if each is not None else None for name, each in found.items()
        }
        versions |= {each.name: each.version for each in resources.values()}
        self._owed -= {WILDCARD, *versions}
        reply = Reply(
            self.type.url,
            self._new_nonce(),
            snapshot.version,
            tuple(resources.values()),
            removed,
        )
        self.exchange.send(reply.nonce, versions, now)
        return reply

    def is_due(self, snapshot: TypeSnapshot, now: float) -> bool:
        """Tell whether a response is in flight, or would be sent now."""
        if not self._started:
            return False
        if self.exchange.in_flight is not None or WILDCARD in self._owed:
            return True
        return bool(self._due(snapshot, now))

    def missing(self, snapshot: TypeSnapshot) -> frozenset[str]:
        """Return the names that the client wants and whose content has to be made anew."""
        return frozenset(
            name
            for name, version in snapshot.recorded.items()
            if self.subscription.wants(name) and self.exchange.has(name) != version
        )

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has all that it should have, and nothing else is left with it."""
        if not self._started:
            return True
        if self.exchange.in_flight is not None:
            return False
        return all(
            self._target(name, snapshot) == self.exchange.has(name)
            for name in self._interest(snapshot)
        )

    def _due(self, snapshot: TypeSnapshot, now: float) -> list[str]:
        return [name for name in self._interest(snapshot) if self._is_owed(name, snapshot, now)]

    def _interest(self, snapshot: TypeSnapshot) -> set[str]:
        """Return every name that the client wants, or has and may have to lose."""
        if not self.subscription.wildcard:
            return self.subscription.names
        listed = {*snapshot.resources, *self.subscription.names, *self.exchange.accepted}
        return (listed | self._owed) - {WILDCARD}

    def _is_owed(self, name: str, snapshot: TypeSnapshot, now: float) -> bool:
        resource = snapshot.find(name)
        if resource is None and (name in snapshot.pending or name in snapshot.recorded):
            return False
        target = resource.version if resource is not None else None
        if self.exchange.holds_back(name, target, now):
            return False
        return name in self._owed or self.exchange.has(name) != target

    def _target(self, name: str, snapshot: TypeSnapshot) -> Version | None:
        resource = snapshot.find(name)
        return resource.version if resource is not None else snapshot.recorded.get(name)
