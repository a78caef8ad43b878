"""Between the client of a stream and its machines: translates names, and selects variants.

The rules of this module:

- A machine gets each name in canonical form, and no more names than the limits allow.
- Machines know of neither variants nor locators. ``Variants`` are made only for a type that has
  some, or for which the client uses locators.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from control_plane.errors import PeerProtocolError
from control_plane.xds.delta import DeltaMachine
from control_plane.xds.events import Event
from control_plane.xds.limits import StreamLimits
from control_plane.xds.locators import (
    Locators,
    canonical_delta,
    canonical_sotw,
    locators_in,
    names_in,
)
from control_plane.xds.messages import DeltaRequest, Reply, Request, SotwRequest
from control_plane.xds.resource import TypeUrl
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.variants import Variants

Machine = SotwMachine | DeltaMachine


class Translation:
    """What is said on one stream, as each side understands it."""

    __slots__ = ("_limits", "_machines", "_variants")

    def __init__(self, machines: Mapping[TypeUrl, Machine], limits: StreamLimits) -> None:
        """Start before the first request.

        Args:
            machines: the machines of the stream.
            limits: how much the client may ask for.
        """
        self._machines = machines
        self._limits = limits
        self._variants: dict[TypeUrl, Variants] = {}

    def receive(
        self, machine: Machine, request: Request, now: float, *, is_first: bool
    ) -> tuple[Event, ...]:
        """Pass a request to a machine; return the events in it.

        Args:
            machine: the machine of the request's type.
            request: the client's request.
            now: seconds of the server's monotonic clock.
            is_first: whether it is the stream's first request of this type.

        Raises:
            PeerProtocolError: the request is of the other xDS variant, or a name is malformed, or
                has two sets of parameters.
            PeerLimitExceeded: the client asks for more than the limits allow.
        """
        match machine, request:
            case SotwMachine(), SotwRequest():
                # Most requests repeat the names of the request before, and those were checked.
                if request.resource_names != machine.names or request.resource_locators:
                    request = canonical_sotw(request)
                    self._check(machine, request)
                self._limits.check_versions([request.version_info])
                variants = self._asked_for(machine, request)
                if variants is not None:
                    request = variants.take_sotw(request)
                events = machine.receive(request, now)
            case DeltaMachine(), DeltaRequest():
                request = canonical_delta(request)
                self._check(machine, request)
                self._limits.check_versions(request.initial_resource_versions.values())
                variants = self._asked_for(machine, request)
                if variants is not None:
                    request = variants.take_delta(request, is_first=is_first)
                events = machine.receive(request, now)
            case _:
                raise PeerProtocolError("a stream speaks one variant, SotW or delta, not both")
        if variants is not None:
            variants.settled(events)
        return events

    def has_variants(self, url: TypeUrl) -> bool:
        """Tell whether the same names may come to mean other resources for the client."""
        return url in self._variants

    def content(self, url: TypeUrl, snapshot: Snapshot) -> TypeSnapshot:
        """Return what the client should have of a type, as ``Stream.content`` says."""
        content = snapshot.of_type(url)
        return self._of(self._machines[url]).view(content) if content.variants else content

    def told(self, reply: Reply) -> Reply:
        """Return a response as the client gets it, with the constraints of its variants."""
        variants = self._variants.get(reply.type_url)
        return reply if variants is None else variants.told(reply)

    def _check(self, machine: Machine, request: Request) -> None:
        names = names_in(request)
        if names:
            total = len(names) + sum(map(_asked_at_most, self._machines.values()))
            if total > self._limits.names:
                total = self._asked_with(names, machine)
            self._limits.check_names(names, total)
        for each in locators_in(request):
            self._limits.check_parameters(each.parameters)

    def _asked_with(self, names: Collection[str], machine: Machine) -> int:
        """Return how many names the client asks for, those of this request included."""
        rest = (each.asked() for each in self._machines.values() if each is not machine)
        # A SotW request replaces the names asked for before; a delta request adds to them.
        kept = machine.asked() if isinstance(machine, DeltaMachine) else set[str]()
        return sum(map(len, rest)) + len(kept.union(names))

    def _asked_for(self, machine: Machine, request: Request) -> Variants | None:
        return self._of(machine) if locators_in(request) else self._variants.get(machine.type.url)

    def _of(self, machine: Machine) -> Variants:
        found = self._variants.get(machine.type.url)
        if found is None:
            locators = Locators(machine.subscription, self._limits)
            is_delta = isinstance(machine, DeltaMachine)
            found = Variants(locators, machine.exchange, delta=is_delta)
            self._variants[machine.type.url] = found
        return found


def _asked_at_most(machine: Machine) -> int:
    """Return an upper bound for the number of names, without a look at each name."""
    exchange = machine.exchange
    return len(machine.subscription.names) + len(exchange.owed) + len(exchange.accepted)
