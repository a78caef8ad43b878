"""The state-of-the-world machine: what one stream owes its client for one type.

The rules of the protocol, in the order in which this module keeps them (quotations are from the xDS
protocol):

1. A first request is initial whatever its nonce, which "is valid only in the context of an
   individual xDS stream; it does not survive stream restarts" (Envoy sends old ones: issues 15767,
   30155, 30206).
2. The names of every request are taken, stale or not. "Within a stream, new DiscoveryRequests
   supersede any prior DiscoveryRequests having the same resource type."
3. "The management server should not send a DiscoveryResponse for any DiscoveryRequest that has a
   stale nonce": what a stale request asks for anew waits for a fresh one, or leaves with the next
   change.
4. NACK means ``error_detail``, nothing else, and is never answered with the same content.
5. "When the client sends a new request that changes the set of resources being requested, the
   server must resend any newly requested resources, even if it previously sent those resources".
6. Listener and Cluster responses have "the complete state of the world"; the first is sent even
   when it is empty. Other types are sent in part, and never empty, since there "an empty
   DiscoveryResponse is effectively a no-op".
7. Nothing is sent again that the client has. "If the management server provides the same set of
   resources rather than waiting for a change to occur, it will cause needless work".
"""

from __future__ import annotations

from control_plane.xds.events import Event, Stale, Subscribed, Unsubscribed
from control_plane.xds.exchange import Accepted, Exchange, NonceFactory
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import WILDCARD, Resource, TypeSnapshot, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.subscription import Subscription


class SotwMachine:
    """One type on one SotW stream."""

    __slots__ = (
        "_deferred",
        "_new_nonce",
        "_owed",
        "_resumed_version",
        "_started",
        "exchange",
        "subscription",
        "type",
    )

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
        self._deferred: set[str] = set()
        self._resumed_version: str = ""

    def receive(self, request: SotwRequest, now: float) -> tuple[Event, ...]:
        """Take a request; return what it told."""
        events: list[Event] = []
        initial, self._started = not self._started, True
        stale = False
        if initial:
            self._resumed_version = request.version_info
        elif self.exchange.answered(request.response_nonce):
            events.append(self.exchange.settle(request.error_detail, now))
            self._forget_deleted()
        elif request.response_nonce and self.exchange.last_nonce:
            stale = request.response_nonce != self.exchange.last_nonce
        if stale:
            events.append(Stale(self.type.url, request.response_nonce))
        events.extend(self._take_names(request.resource_names, stale=stale))
        return tuple(events)

    def _take_names(self, names: tuple[str, ...], *, stale: bool) -> list[Event]:
        before = frozenset(self.subscription.names)
        added = self.subscription.replace(names)
        dropped = before - self.subscription.names
        if stale:
            self._deferred |= added
        else:
            self._owed |= added | self._deferred
            self._deferred.clear()
        self._owed = {name for name in self._owed if self._still_wanted(name)}
        accepted = self.exchange.accepted
        for name in [name for name in accepted if not self.subscription.wants(name)]:
            del accepted[name]
        events: list[Event] = []
        if added:
            events.append(Subscribed(self.type.url, added))
        if dropped:
            events.append(Unsubscribed(self.type.url, dropped))
        return events

    def _forget_deleted(self) -> None:
        accepted = self.exchange.accepted
        for name in [name for name, has in accepted.items() if has.version is None]:
            del accepted[name]

    def _still_wanted(self, name: str) -> bool:
        return self.subscription.wildcard if name == WILDCARD else name in self.subscription.names

    def owe(self, names: frozenset[str]) -> None:
        """Send these again even if unchanged: the client waits for them to warm what it got."""
        self._owed |= {name for name in names if self.subscription.wants(name)}

    def reply(self, snapshot: TypeSnapshot, now: float) -> Reply | None:
        """Return the response to send now, and remember it as in flight."""
        if not self._started or self.exchange.in_flight is not None:
            return None
        self._resume(snapshot, now)
        due = self._due(snapshot, now)
        if due is None:
            return None
        self._owed |= self._deferred
        self._deferred.clear()
        if not self.type.complete:
            due = self.exchange.take_turn(due, self.type.batch)
        resources = tuple(snapshot.resources[name] for name in due)
        versions: dict[str, Version | None] = {each.name: each.version for each in resources}
        self._owed -= versions.keys()
        if self.type.complete:
            # Absence from a complete response is deletion, so what is absent is part of its
            # content.
            versions |= {name: None for name in self.exchange.accepted if name not in versions}
            self._owed.clear()
        reply = Reply(self.type.url, self._new_nonce(), snapshot.version, resources)
        self.exchange.send(reply.nonce, versions, now)
        return reply

    def is_due(self, snapshot: TypeSnapshot, now: float) -> bool:
        """Tell whether a response is in flight, or would be sent now."""
        if not self._started:
            return False
        return self.exchange.in_flight is not None or self._due(snapshot, now) is not None

    def missing(self, snapshot: TypeSnapshot) -> frozenset[str]:
        """Return the names that the client wants and whose content has to be made anew."""
        return frozenset(name for name in snapshot.recorded if self.subscription.wants(name))

    def in_step(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has all that it should have, and nothing else is left with it."""
        if not self._started:
            return True
        if self.exchange.in_flight is not None:
            return False
        wanted = {each.name: each.version for each in self._wanted(snapshot)}
        has = {name: accepted.version for name, accepted in self.exchange.accepted.items()}
        if self.type.complete:
            return has == wanted
        return all(has.get(name) == version for name, version in wanted.items())

    def _resume(self, snapshot: TypeSnapshot, now: float) -> None:
        """Leave a reconnected client alone that says it has this very version.

        "Servers may decide to optimize by not resending resources that the client had already seen
        on the previous stream [...] it is generally safe for servers to do this optimization for
        LDS and CDS when the only subscription is a wildcard subscription".
        """
        version, self._resumed_version = self._resumed_version, ""
        if not self.type.complete or version != snapshot.version:
            return
        if self.subscription.wildcard and not self.subscription.names:
            for each in snapshot.resources.values():
                self.exchange.accepted[each.name] = Accepted(each.version, now)
            self._owed.clear()

    def _due(self, snapshot: TypeSnapshot, now: float) -> list[str] | None:
        """Return the names that a response would have now, or None for no response."""
        wanted = self._wanted(snapshot)
        lacking = {r.name for r in wanted if self.exchange.lacks(r.name, r.version, now)}
        if self.type.complete:
            due = self._owed or lacking or self._leftovers(wanted, now)
            return [each.name for each in wanted] if due else None
        owed = self._owed | self._deferred if lacking else self._owed
        lacking |= {
            r.name
            for r in wanted
            if r.name in owed and not self.exchange.holds_back(r.name, r.version, now)
        }
        return list(lacking) or None

    def _leftovers(self, wanted: list[Resource], now: float) -> bool:
        """Tell whether the client has something that it should delete."""
        names = {each.name for each in wanted}
        return any(
            name not in names and not self.exchange.holds_back(name, None, now)
            for name in self.exchange.accepted
        )

    def _wanted(self, snapshot: TypeSnapshot) -> list[Resource]:
        if self.subscription.wildcard:
            return [snapshot.resources[name] for name in sorted(snapshot.resources)]
        return [
            snapshot.resources[name]
            for name in sorted(self.subscription.names)
            if name in snapshot.resources
        ]
