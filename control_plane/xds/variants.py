"""Which variant of each resource one client should have, and which variants it is told to drop.

The rules of this module (quotations are from "TP2: Dynamically Generated Cacheable xDS Resources"):

- A client sees one variant of a name, the one whose constraints match its parameters, as if that
  were the resource. If none matches, the server is "acting as if the requested resource does not
  exist". So the machines behind this module know nothing of variants.
- "xDS servers that support multiple variants of a resource MUST send the dynamic parameter
  constraints associated with a resource variant to the client along with that variant": to a client
  that asks by locators. A client that asks by plain names may not know constraints, and is sent the
  name only.
- "The server must handle this kind of change by sending the deletion of the original resource
  variant and the creation of the replacement resource variants in a single xDS response."
  ``removed_resource_names`` "must be used for any resource for which dynamic parameter constraints
  were sent to the client". This includes a variant that the client refused, because it may have
  applied it.
- ``removed_resources`` has the names that the client asks for and that do not exist. A name is left
  out if a variant is removed that matches the parameters with which the client asks, because this
  says the same.
- A client that reconnects states versions, and these tell which variants it has. A stated version
  that no variant has may have been that of any variant, so no removal accompanies its replacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import assert_never

from control_plane.xds.constraints import Constraints
from control_plane.xds.events import (
    Acked,
    Connected,
    Event,
    Nacked,
    Stale,
    Subscribed,
    Unsubscribed,
)
from control_plane.xds.exchange import Exchange
from control_plane.xds.locators import NO_PARAMETERS, Locators
from control_plane.xds.messages import DeltaRequest, Reply, SotwRequest
from control_plane.xds.resource import WILDCARD, Resource
from control_plane.xds.snapshot import EMPTY, TypeSnapshot

Whose = Constraints | None
"""The constraints with which a client was sent a resource; None if it was sent without any."""

NO_VARIANTS: frozenset[Whose] = frozenset()


class Variants:
    """What one client sees of one type."""

    __slots__ = (
        "_accepted",
        "_content",
        "_exchange",
        "_locators",
        "_perhaps",
        "_remembers",
        "_sent",
        "_stated",
        "_view",
    )

    def __init__(self, locators: Locators, exchange: Exchange, *, delta: bool) -> None:
        """Start with a client that was sent no variant.

        Args:
            locators: the parameters with which the client asks.
            exchange: what the client has.
            delta: whether the client is told which variants to drop.
        """
        self._locators = locators
        self._exchange = exchange
        self._remembers = delta
        self._content = self._view = EMPTY
        self._accepted: dict[str, Constraints] = {}
        self._sent: dict[str, Whose] = {}
        self._perhaps: dict[str, frozenset[Whose]] = {}
        self._stated: frozenset[str] = frozenset()

    def view(self, content: TypeSnapshot) -> TypeSnapshot:
        """Return the client's view of its node's content; the same object for the same content.

        Args:
            content: the node's content, with variants.
        """
        if content is not self._content:
            found = (self._choice(name, each) for name, each in content.variants.items())
            self._view = content.showing(each for each in found if each is not None)
            self._content = content
            self._recognise()
        return self._view

    def _recognise(self) -> None:
        """Take note of which variants the client has from an earlier stream."""
        for name in self._stated & self._content.variants.keys():
            version, is_located = self._exchange.has(name), self._locators.of(name) is not None
            for each in self._content.variants[name]:
                if each.version == version and each.constraints is not None and is_located:
                    self._accepted[name] = each.constraints
        self._stated = self._stated.difference(self._accepted)

    def _choice(self, name: str, variants: Sequence[Resource]) -> Resource | None:
        parameters = dict(self._locators.of(name) or NO_PARAMETERS)
        for each in variants:
            if each.constraints is not None and each.constraints.matches(parameters):
                return each
        return None

    def take_sotw(self, request: SotwRequest) -> SotwRequest:
        """Take the names and parameters of a request; return the request with names alone.

        Raises:
            PeerProtocolError: a name has two sets of parameters.
            PeerLimitExceeded: there are too many parameters.
        """
        request, turned = self._locators.take_sotw(request)
        if turned:
            # If a name is asked for with other parameters, this is a new request for it.
            known = self._exchange.known() if WILDCARD in turned else set[str]()
            self._exchange.ask(turned | known | self._exchange.known_in(turned), anew=True)
            self._content = EMPTY
        return request

    def take_delta(self, request: DeltaRequest, *, is_first: bool) -> DeltaRequest:
        """Take the names and parameters of a request; return the request with names alone.

        Args:
            request: the client's request.
            is_first: whether it is the request that states what the client has from an earlier
                stream.

        Raises:
            PeerProtocolError: a name has two sets of parameters.
            PeerLimitExceeded: there are too many parameters.
        """
        if is_first:
            self._stated = frozenset(request.initial_resource_versions)
        return self._locators.take_delta(request)

    def settled(self, events: Iterable[Event]) -> None:
        """Take note of the events in a request, after the exchange did."""
        for event in events:
            match event:
                case Acked():
                    self._accept(self._sent)
                    self._sent = {}
                case Nacked():
                    for name in event.versions.keys() & self._sent.keys():
                        before = self._perhaps.get(name, NO_VARIANTS)
                        self._perhaps[name] = before | {self._sent.pop(name)}
                case Subscribed() | Unsubscribed():
                    self._content = EMPTY
                case Connected() | Stale():
                    pass
                case _:
                    assert_never(event)
        has, may_have = self._exchange.accepted, self._exchange.may_have
        self._accepted = {name: each for name, each in self._accepted.items() if name in has}
        self._perhaps = {name: each for name, each in self._perhaps.items() if may_have(name)}
        self._stated = self._stated.intersection(has)

    def _accept(self, sent: Mapping[str, Whose]) -> None:
        for name, whose in sent.items():
            self._perhaps.pop(name, None)
            if whose is None:
                self._accepted.pop(name, None)
            else:
                self._accepted[name] = whose
        self._stated = self._stated.difference(sent)

    def told(self, reply: Reply) -> Reply:
        """Return a response with the variants that it refers to, and remember what it says."""
        named = {
            each.name: each.constraints
            for each in reply.resources
            if each.constraints is not None and self._locators.of(each.name) is not None
        }
        if reply.is_heartbeat:
            # The client has this if it accepts what is in flight.
            has = {**self._accepted, **self._sent}
            named |= {name: each for name in reply.kept if (each := has.get(name)) is not None}
            return replace(reply, constraints=named)
        if not self._remembers:
            return replace(reply, constraints=named)
        self._sent = {each.name: named.get(each.name) for each in reply.resources}
        gone = {
            (name, had)
            for name, whose in self._sent.items()
            for had in self._may_have(name) - {whose}
        }
        gone |= {
            (name, had) for name in reply.removed for had in self._may_have(name) if had is not None
        }
        return replace(
            reply,
            constraints=named,
            removed=tuple(name for name in reply.removed if not self._is_covered(name)),
            removed_variants=tuple(sorted(gone, key=_by_name)),
        )

    def _is_covered(self, name: str) -> bool:
        """Tell whether the removal of a variant suffices, as it is the one the client means."""
        had = self._may_have(name)
        parameters = dict(self._locators.of(name) or NO_PARAMETERS)
        return None not in had and any(each.matches(parameters) for each in had if each is not None)

    def _may_have(self, name: str) -> AbstractSet[Whose]:
        """Return the variants that the client has of a name, or may have, as far as is known."""
        perhaps = self._perhaps.get(name, NO_VARIANTS)
        if name in self._stated or self._exchange.has(name) is None:
            return perhaps
        return perhaps | {self._accepted.get(name)}


def _by_name(variant: tuple[str, Whose]) -> tuple[str, bytes]:
    name, whose = variant
    return name, b"" if whose is None else whose.encoded
