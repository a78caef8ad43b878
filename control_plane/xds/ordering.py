"""Make before break: in which order the types of one stream are served.

The rules of this module (quotations are from the xDS protocol, "Eventual consistency
considerations"):

- "CDS updates (if any) must always be pushed first", then EDS; "LDS updates must arrive after
  corresponding CDS/EDS updates", and RDS updates "after CDS/EDS/LDS updates". That means: after the
  client has answered the updates of the types before. An answer is an ACK or a NACK, so a refused
  cluster does not keep the listeners waiting.
- A type waits for what its resources may refer to: the content that the types before it had yet to
  deliver when its own content was set. It never waits for a removal. It waits once for each name,
  until the client has answered that content or newer content; otherwise endpoints that change on
  each round trip would keep listeners and routes from ever being sent. If the type's own content
  changes while it waits, it also waits for what is new to the client by then.
- Resources that a client waits for are sent again, even if nothing changed. If another listener had
  scoped routes before, an Envoy that warms a listener with scoped routes asks for them by repeating
  its last request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from control_plane.xds.messages import Request
from control_plane.xds.resource import NO_NAMES, WILDCARD, Nonce, TypeUrl, Version
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.translation import Machine
from control_plane.xds.wait import Wait
from control_plane.xds.withdrawal import Withdrawal


class Ordering:
    """What the types of one stream wait for."""

    __slots__ = ("_at_rest", "_content", "_machines", "_types", "_waits", "_withdrawal")

    def __init__(
        self,
        types: ResourceTypes,
        machines: Mapping[TypeUrl, Machine],
        at_rest: Mapping[TypeUrl, TypeSnapshot],
        content: Callable[[TypeUrl, Snapshot], TypeSnapshot],
        withdrawal: Withdrawal,
    ) -> None:
        """Start before the first request.

        Args:
            types: the resource types that the server knows.
            machines: the machines of the stream.
            at_rest: the types of which nothing is owed, each with the snapshot that it was compared
                with.
            content: returns what the client should have of a type.
            withdrawal: decides when surplus resources are taken from the client.
        """
        self._types = types
        self._machines = machines
        self._at_rest = at_rest
        self._content = content
        self._withdrawal = withdrawal
        self._waits: dict[TypeUrl, Wait] = {}

    def in_order(self) -> list[TypeUrl]:
        """Return the types that the client asks for, in the order in which they are served."""
        known = [each.url for each in self._types.ordered if each.url in self._machines]
        return known + [url for url in self._machines if url not in self._types.by_url]

    def must_wait(self, url: TypeUrl, snapshot: Snapshot, now: float) -> bool:
        """Tell whether the client has yet to answer resources that a type may refer to."""
        before = [
            each
            for each in self._types.get(url).after
            if each in self._machines
            and self._at_rest.get(each) is not self._content(each, snapshot)
        ]
        if not before or self._machines[url].exchange.in_flight is not None:
            must_wait = False
        elif (wait := self._waits.get(url)) and wait.content is self._content(url, snapshot):
            must_wait = any(
                wait.lasts(each, self._in_flight(each, snapshot))
                or wait.lasts(each, self._due(each, snapshot, now))
                for each in before
            )
        else:
            must_wait = self._begins_to_wait(url, before, snapshot, now)
        if not must_wait:
            self._waits.pop(url, None)
        return must_wait

    def answered(self, url: TypeUrl, told: Mapping[str, Version | None]) -> None:
        """Take note that the client answered a response, with an ACK or a NACK.

        Args:
            url: the type of the response.
            told: the news in the response: the version of each name, None for a removal.
        """
        if self._waits:
            names = {name for name, version in told.items() if version is not None}
            for wait in self._waits.values():
                wait.answered(url, names if told else {WILDCARD})

    def is_asked_again(self, url: TypeUrl, request: Request) -> bool:
        """Tell whether a request, not taken yet, repeats the last one so that it is answered again.

        In state of the world such a request looks like an ACK that the client gave before. So it
        counts only if a response was sent since that may have made the client interested again: one
        of a type that this type waits for and that itself waits for others, as listeners and routes
        do.
        """
        machine = self._machines[url]
        if not isinstance(machine, SotwMachine) or request.error_detail is not None:
            return False
        nonce = machine.exchange.last_nonce
        return (
            machine.type.complete
            and request.response_nonce == nonce
            and machine.subscription.asked() == {WILDCARD}
            and (machine.exchange.in_flight is None or machine.takes_everything())
            and not (machine.heartbeats and machine.heartbeats.answered(nonce))
            and any(
                _number(self._machines[each].exchange.last_nonce) > _number(nonce)
                for each in machine.type.after
                if each in self._machines and self._types.get(each).after
            )
        )

    def _begins_to_wait(
        self, url: TypeUrl, before: Iterable[TypeUrl], snapshot: Snapshot, now: float
    ) -> bool:
        """Make a type wait for what types before it have yet to deliver; tell whether it waits."""
        outstanding = {
            each: names
            for each in before
            if (names := self._in_flight(each, snapshot) | self._due(each, snapshot, now))
        }
        machine, content = self._machines[url], self._content(url, snapshot)
        withdraw = self._withdrawal.may_withdraw(url, snapshot, now)
        if not outstanding or not machine.due(content, now, withdraw=withdraw):
            return False
        wait = self._waits.setdefault(url, Wait(content))
        wait.content = content
        for each, names in outstanding.items():
            has = self._machines[each].exchange.accepted.keys()
            wait.need(each, names, outdated=self._outdated(each, snapshot), has=has)
        return any(wait.lasts(*each) for each in outstanding.items())

    def _in_flight(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names whose content is in flight, or will follow their removal in flight."""
        told = self._machines[url].exchange.in_flight
        if told is None:
            return NO_NAMES
        content = self._content(url, snapshot)
        names = {
            name
            for name, version in told.items()
            if version is not None or content.find(name) is not None
        }
        return names if told else {WILDCARD}

    def _outdated(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names whose content in flight is not what the client should have."""
        content = self._content(url, snapshot)
        return {
            name
            for name, version in (self._machines[url].exchange.in_flight or {}).items()
            if version is not None
            and (resource := content.find(name)) is not None
            and resource.version != version
        }

    def _due(self, url: TypeUrl, snapshot: Snapshot, now: float) -> AbstractSet[str]:
        """Return the names whose content would be sent once nothing is in flight."""
        due = self._machines[url].due(self._content(url, snapshot), now, withdraw=False)
        return {name for name, version in due.items() if version is not None or name == WILDCARD}


def _number(nonce: Nonce) -> int:
    """Return the position of a nonce's response on its stream, from 1; 0 if there was none."""
    return int(nonce.rpartition("-")[2] or 0)
