"""The names in requests: in canonical form, and with the dynamic parameters that belong to them.

The rules of this module (quotations are from "TP2: Dynamically Generated Cacheable xDS Resources"):

- A name in a locator is a name like any other; the parameters beside it select the variant that the
  client should have. A name without a locator has no parameters.
- "When multiple variants of a given resource exist, any given client will only ever use one of
  those variants at a given time." So on a stream a name has one set of parameters at a time. A
  client may ask with another set after it gave the name up, or in the same request.
- "Caching xDS proxies, unlike "leaf" clients, will need to track multiple variants of each
  resource": they open a stream for each set.
- If a client gives up a name with other parameters than it asked with, it never asked for that:
  this is a phantom unsubscription, to be ignored.
- A resource that came by a collection or by ``*`` has the parameters of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import assert_never

from control_plane.errors import PeerProtocolError
from control_plane.names import shown
from control_plane.xds.constraints import Parameters
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import DeltaRequest, Locator, SotwRequest
from control_plane.xds.resource import WILDCARD
from control_plane.xds.subscription import Subscription
from control_plane.xds.xdstp import canonical, collection_of

NO_PARAMETERS: Parameters = ()


def canonical_sotw(request: SotwRequest) -> SotwRequest:
    """Return a request with all names in canonical form.

    Raises:
        PeerProtocolError: a name is malformed.
    """
    if not (request.resource_names or request.resource_locators):
        return request
    return replace(
        request,
        resource_names=_canonical(request.resource_names),
        resource_locators=_canonical_locators(request.resource_locators),
    )


def canonical_delta(request: DeltaRequest) -> DeltaRequest:
    """Return a request with all names in canonical form.

    Raises:
        PeerProtocolError: a name is malformed.
    """
    stated = request.initial_resource_versions
    if not (request.subscribe or request.unsubscribe or stated or locators_in(request)):
        return request
    return replace(
        request,
        subscribe=_canonical(request.subscribe),
        unsubscribe=_canonical(request.unsubscribe),
        initial_resource_versions=dict(zip(_canonical(stated), stated.values(), strict=True)),
        subscribe_locators=_canonical_locators(request.subscribe_locators),
        unsubscribe_locators=_canonical_locators(request.unsubscribe_locators),
    )


def names_in(request: SotwRequest | DeltaRequest) -> Collection[str]:
    """Return the names that a request asks for or states, with parameters or without."""
    match request:
        case SotwRequest(resource_locators=()):
            return request.resource_names
        case SotwRequest():
            return {*request.resource_names, *(each.name for each in request.resource_locators)}
        case DeltaRequest():
            located = (each.name for each in request.subscribe_locators)
            return {*request.subscribe, *request.initial_resource_versions, *located}
        case _:
            assert_never(request)


def locators_in(request: SotwRequest | DeltaRequest) -> tuple[Locator, ...]:
    """Return the locators by which a request asks for names or gives them up."""
    match request:
        case SotwRequest():
            return request.resource_locators
        case DeltaRequest():
            return request.subscribe_locators + request.unsubscribe_locators
        case _:
            assert_never(request)


class Locators:
    """The parameters with which one client asks for names of one type."""

    __slots__ = ("_given", "_limits", "_subscription")

    def __init__(self, subscription: Subscription, limits: StreamLimits) -> None:
        """Start with a client that gave no parameters.

        Args:
            subscription: what the client asks for.
            limits: how much the client may ask for.
        """
        self._subscription = subscription
        self._limits = limits
        self._given: dict[str, Parameters] = {}

    def of(self, name: str) -> Parameters | None:
        """Return the parameters that select a client's variant of a name; None without locator."""
        if name in self._subscription.names:
            return self._given.get(name)
        globs = self._subscription.globs
        collection = collection_of(name) if globs else None
        return self._given.get(collection if collection in globs else WILDCARD)

    def take_sotw(self, request: SotwRequest) -> tuple[SotwRequest, AbstractSet[str]]:
        """Take the full list of a request; return the request with names alone, and changed names.

        Returns:
            The request, and the names that were asked for before, but with other parameters.

        Raises:
            PeerProtocolError: a name has two sets of parameters.
            PeerLimitExceeded: there are too many parameters.
        """
        asked = self._asked(request.resource_names, request.resource_locators)
        before, self._given = self._given, {}
        self._keep(asked, request.resource_locators)
        known = self._subscription.asked() & asked.keys()
        turned = {name for name in known if self._given.get(name) != before.get(name)}
        return replace(request, resource_names=tuple(asked), resource_locators=()), turned

    def take_delta(self, request: DeltaRequest) -> DeltaRequest:
        """Take the lists of a request, the additions first; return the request with names alone.

        Raises:
            PeerProtocolError: a name has two sets of parameters.
            PeerLimitExceeded: there are too many parameters.
        """
        if not (request.subscribe or request.unsubscribe or locators_in(request)):
            return request  # most requests only answer a response
        asked = self._asked(request.subscribe, request.subscribe_locators)
        subscribed = self._subscription.asked()
        given_up: dict[str, set[Parameters]] = {}
        for name, parameters in _pairs(request.unsubscribe, request.unsubscribe_locators):
            given_up.setdefault(name, set()).add(parameters)
        for name in subscribed & asked.keys():
            before = self._given.get(name, NO_PARAMETERS)
            if asked[name] != before and before not in given_up.get(name, ()):
                raise _two_sets(name)
        held = {name: self._given.get(name, NO_PARAMETERS) for name in subscribed} | asked
        dropped = [name for name, sets in given_up.items() if held.get(name) in {None, *sets}]
        self._keep(asked, request.subscribe_locators)
        for name in dropped:
            self._given.pop(name, None)
        return replace(
            request,
            subscribe=tuple(asked),
            unsubscribe=tuple(dropped),
            subscribe_locators=(),
            unsubscribe_locators=(),
        )

    def _asked(self, names: Iterable[str], locators: Iterable[Locator]) -> dict[str, Parameters]:
        asked: dict[str, Parameters] = {}
        for name, parameters in _pairs(names, locators):
            if asked.setdefault(name, parameters) != parameters:
                raise _two_sets(name)
        return asked

    def _keep(self, asked: Iterable[str], locators: Iterable[Locator]) -> None:
        for name in asked:
            self._given.pop(name, None)
        sets = {each: each for each in self._given.values()}
        for each in locators:
            self._given[each.name] = sets.setdefault(each.parameters, each.parameters)
        self._limits.check_parameter_sets(len(sets))


def _pairs(names: Iterable[str], locators: Iterable[Locator]) -> Iterable[tuple[str, Parameters]]:
    yield from ((name, NO_PARAMETERS) for name in names)
    yield from ((each.name, each.parameters) for each in locators)


def _two_sets(name: str) -> PeerProtocolError:
    return PeerProtocolError(
        f"two sets of dynamic parameters for {shown(name)} on one stream: open one for each set"
    )


def _canonical_locators(locators: Sequence[Locator]) -> tuple[Locator, ...]:
    names = _canonical(each.name for each in locators)
    return tuple(map(Locator, names, (each.parameters for each in locators)))


def _canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in canonical form.

    Raises:
        PeerProtocolError: a name is malformed.
    """
    try:
        return tuple(map(canonical, names))
    except ValueError as error:
        raise PeerProtocolError(str(error)) from error
