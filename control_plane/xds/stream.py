"""One xDS stream: which client it belongs to, which types it asks for, and which is served first.

The rules of this module (quotations are from the xDS protocol):

- "Only the first request on a stream is guaranteed to carry the node identifier. [...] The node
  identifier should always be identical if present more than once": the stream remembers the node,
  and ends if a request carries another one.
- On an aggregated stream every request names its type, and "each resource type is treated as a
  separate logical stream". On a stream of one type the type is implicit, and a request for another
  type ends the stream.
- Make before break: ``Ordering`` decides which type waits for which, and ``Withdrawal`` decides
  when resources are taken from the client.
- "Management server is expected to provide the EDS/RDS updates during warming", even if nothing
  changed.

Most requests and changes concern only one of the stream's types. So when nothing is owed for a
type, the stream remembers the snapshot object that it compared, and does not look at the type again
until a request, a response or another snapshot concerns it. A stream rests if this holds for all of
its types and it has no heartbeats to send: nothing looks at it until a request arrives or another
snapshot is set.
"""

from __future__ import annotations

import itertools

from control_plane.errors import PeerProtocolError
from control_plane.names import shown
from control_plane.xds.delta import DeltaMachine
from control_plane.xds.events import Connected, Event, Stale, Unsubscribed
from control_plane.xds.heartbeat import Heartbeats, takes_ttls
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Node, Reply, Request, SotwRequest
from control_plane.xds.ordering import Ordering
from control_plane.xds.refusal import NodeRefusals, Refusal
from control_plane.xds.resource import WILDCARD, Nonce, TypeUrl
from control_plane.xds.resource_error import takes_errors
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.subscription import asks_by_name
from control_plane.xds.translation import Machine, Translation
from control_plane.xds.withdrawal import Withdrawal


class Stream:
    """The protocol state of one stream; the shell only reads requests and writes replies."""

    def __init__(
        self,
        types: ResourceTypes,
        *,
        only: TypeUrl | None = None,
        limits: StreamLimits | None = None,
        nonces: str = "",
    ) -> None:
        """Start before the first request.

        Args:
            types: the resource types that the server knows.
            only: the type that a per-type service implies; None on an aggregated stream.
            limits: how much the client may ask for.
            nonces: the prefix of the stream's nonces, which ends in a hyphen. It makes sure that no
                nonce of an earlier stream is taken for one of this stream.
        """
        self._types = types
        self._only = only
        self._limits = limits or StreamLimits()
        self._nonces = (Nonce(f"{nonces}{number}") for number in itertools.count(1))
        self._refusals = NodeRefusals()
        self._at_rest: dict[TypeUrl, TypeSnapshot] = {}
        self._rests_with: Snapshot | None = None
        self._said_all: Snapshot | None = None
        self.node: Node | None = None
        self.machines: dict[TypeUrl, Machine] = {}
        self._translation = Translation(self.machines, self._limits)
        # They refer to the translation and not to this stream: a reference cycle would keep a
        # stream that has ended, with the keys in its snapshot, until the garbage collector comes.
        content = self._translation.content
        self._withdrawal = Withdrawal(types, self.machines, self._at_rest, content)
        self._ordering = Ordering(types, self.machines, self._at_rest, content, self._withdrawal)

    def identify(self, request: Request) -> Connected | None:
        """Take the node of a request; the node of the first request identifies the client.

        Raises:
            PeerProtocolError: the first request has no node id, or a later one has another.
        """
        node = request.node
        if self.node is None:
            if node is None or not node.id:
                raise PeerProtocolError("the first request of a stream must carry node.id")
            self._limits.check_node_id(node.id)
            self.node = node
            return Connected(node)
        if node is not None and node.id and node.id != self.node.id:
            raise PeerProtocolError(
                f"node.id changed on the stream: {shown(self.node.id)} became {shown(node.id)}"
            )
        return None

    def bind(self, refusals: NodeRefusals) -> None:
        """Give the stream the refusals of its node, from this stream or an earlier one."""
        self._refusals = refusals

    def receive(self, request: Request, now: float) -> tuple[Event, ...]:
        """Take a request whose node was identified; return the events in it.

        Args:
            request: a request of the variant that this stream speaks.
            now: seconds of the server's monotonic clock.

        Raises:
            PeerProtocolError: the request has no type URL, or one that this stream does not serve;
                or a name is a malformed ``xdstp:`` name, or has two sets of parameters.
            PeerLimitExceeded: the client asks for more than the limits allow.
        """
        url = self._type_of(request)
        is_first = url not in self.machines
        machine = self._machine(url, request)
        changes = is_first or (isinstance(machine, SotwMachine) and bool(machine.deferred))
        changes |= (is_asked_again := self._ordering.is_asked_again(url, request))
        in_flight = machine.exchange.in_flight
        events = self._translation.receive(machine, request, now, is_first=is_first)
        changes |= any(not isinstance(each, Stale) for each in events)
        if in_flight is not None and machine.exchange.in_flight is None:
            self._ordering.answered(url, in_flight)
        if any(isinstance(each, Unsubscribed) for each in events):
            self._withdrawal.gave_up(url)
        if is_asked_again:
            machine.exchange.owe({WILDCARD})
        # If there are variants, the same names with other parameters mean other resources.
        if changes or self._translation.has_variants(url):
            self._at_rest.pop(url, None)
            self._rests_with = self._said_all = None
        return events

    def content(self, url: TypeUrl, snapshot: Snapshot) -> TypeSnapshot:
        """Return what the client should have of a type that it asked for.

        Of a resource with variants, this is the variant that matches the client's parameters.

        Args:
            url: the type.
            snapshot: all that the node should have.
        """
        return self._translation.content(url, snapshot)

    def as_told(self, reply: Reply) -> Reply:
        """Return a response as the client gets it, with the constraints of its variants."""
        return self._translation.told(reply)

    def replies(self, snapshot: Snapshot, now: float) -> list[Reply]:
        """Return the responses to send now, and remember them as in flight.

        Args:
            snapshot: all that the node should have.
            now: seconds of the server's monotonic clock.
        """
        if self._rests_with is snapshot:
            return []
        self._rests_with, self._said_all = None, snapshot
        self._look(snapshot, now)
        replies: list[Reply] = []
        for url in self._ordering.in_order():
            machine, content = self.machines[url], self.content(url, snapshot)
            machine.forget_gone(snapshot.of_type(url))
            if machine.heartbeats and machine.heartbeats.end(content):
                self._at_rest.pop(url, None)
            if self._at_rest.get(url) is content or self._ordering.must_wait(url, snapshot, now):
                continue
            whole = machine.type.part_of
            if whole is not None and WILDCARD in machine.exchange.owed:
                wholes = snapshot.of_type(whole)
                names = wholes.resources.keys() | wholes.variants.keys()
                machine.refresh(names, content.resources)
            withdraw = self._withdrawal.may_withdraw(url, snapshot, now)
            reply = machine.reply(content, now, withdraw=withdraw)
            if reply is not None:
                replies.append(self.as_told(reply))
                self._at_rest.pop(url, None)
                self._refresh(machine, snapshot)
        for url, machine in self.machines.items():
            beat = machine.beat(self.content(url, snapshot), now) if machine.heartbeats else None
            if beat is not None:
                replies.append(self.as_told(beat))
        return replies

    def missing(self, snapshot: Snapshot) -> frozenset[tuple[TypeUrl, str]]:
        """Return the resources that the client wants and whose content has to be made anew."""
        return frozenset(
            (url, name)
            for url, content in snapshot.types.items()
            if content.recorded and url in self.machines
            for name in self.machines[url].missing(self.content(url, snapshot))
        )

    def in_step(self, snapshot: Snapshot) -> bool:
        """Tell whether the client has exactly what it asked for and should have."""
        if self._rests_with is snapshot:
            return True
        if not all(self._is_in_step(url, self.content(url, snapshot)) for url in self.machines):
            return False
        if not any(each.exchange.owed or each.heartbeats for each in self.machines.values()):
            self._rests_with = snapshot
        return True

    def rests(self, snapshot: Snapshot) -> bool:
        """Tell whether nothing will be sent until a request arrives or another snapshot is set."""
        return self.in_step(snapshot) and self._rests_with is snapshot

    def has_said_all(self, snapshot: Snapshot) -> bool:
        """Tell whether no request changed anything since the replies to this snapshot were made.

        If so, there are no more replies to it before ``next_due``.
        """
        return self._said_all is snapshot

    def refusal(self, url: TypeUrl, name: str) -> Refusal | None:
        """Return the last refusal of this name by the node, unless it accepted content since."""
        return self._refusals.of_type(self._types.get(url)).get(name)

    def next_due(self, now: float) -> float | None:
        """Return the next moment at which a retry, a withdrawal or a heartbeat may be sent."""
        moments = [self._withdrawal.next_due(now)]
        moments += [machine.exchange.next_retry(now) for machine in self.machines.values()]
        beating = [each.heartbeats for each in self.machines.values() if each.heartbeats]
        moments += [each.next_beat(now) for each in beating]
        return min((moment for moment in moments if moment is not None), default=None)

    def _look(self, snapshot: Snapshot, now: float) -> None:
        """Take note of what is settled without a response, before looking at what depends on it."""
        for url, machine in self.machines.items():
            if isinstance(machine, SotwMachine):
                awaited = self._types.is_refreshed(url)
                machine.resume(self.content(url, snapshot), now, awaited=awaited)
        self._withdrawal.look(snapshot)

    def _type_of(self, request: Request) -> TypeUrl:
        if self._only is None:
            if not request.type_url:
                raise PeerProtocolError("type_url is required on an aggregated stream")
            return request.type_url
        if request.type_url and request.type_url != self._only:
            raise PeerProtocolError(
                f"this service serves {self._only} only, not {shown(request.type_url)}"
            )
        return self._only

    def _machine(self, url: TypeUrl, request: Request) -> Machine:
        machine = self.machines.get(url)
        if machine is not None:
            return machine
        self._limits.check_type(url, len(self.machines) + 1)
        kind = SotwMachine if isinstance(request, SotwRequest) else DeltaMachine
        if kind is SotwMachine and self._types.get(url).part_of is not None:
            raise PeerProtocolError(f"{url} is served by the incremental variant only")
        refusals = self._refusals.of_type(self._types.get(url))
        new_nonce = self._nonces.__next__
        self.machines[url] = machine = kind(
            self._types.get(url), refusals, new_nonce, tells_errors=takes_errors(self.node)
        )
        is_delta = kind is DeltaMachine
        machine.subscription.explicit = not is_delta and asks_by_name(self.node, url)
        if takes_ttls(self.node, machine.type, delta=is_delta):
            machine.heartbeats = Heartbeats(url, machine.exchange, beside=is_delta)
        return machine

    def _is_in_step(self, url: TypeUrl, content: TypeSnapshot) -> bool:
        if self._at_rest.get(url) is content:
            return True
        machine = self.machines[url]
        awaited = any(machine.subscription.wants(name) for name in content.pending)
        if awaited or not machine.in_step(content):
            return False
        if not machine.exchange.owed:
            self._at_rest[url] = content
        return True

    def _refresh(self, machine: Machine, snapshot: Snapshot) -> None:
        """Owe the client the resources that it waits for before it uses what it was just sent.

        A resource names them itself (``Resource.awaits``); otherwise it is the resource of the same
        name.
        """
        told = machine.exchange.in_flight or {}
        updated = [name for name, version in told.items() if version is not None]
        parents = self.content(machine.type.url, snapshot).resources
        for child in machine.type.refreshes:
            if child in self.machines:
                awaited: set[str] = set()
                for name in updated:
                    parent = parents.get(name)
                    awaited.update(parent.awaits.get(child, (name,)) if parent else (name,))
                self.machines[child].refresh(awaited, self.content(child, snapshot).resources)
                self._at_rest.pop(child, None)
