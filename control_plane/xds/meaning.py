"""What the names of one delta client mean, and what it has besides under names it never gave.

The rules of this module:

- A client asks for a resource by its name or by an alias, and gives up either, but what it was sent
  it has by its name. In ``removed_resources`` Envoy knows the name of what it got, and not the
  alias that it asked by. So a resource with aliases is removed by its name, which is remembered
  until the client has let go of it, and it has to go once the client has no name for it any more.
- Resources that are ``part_of`` others are sent on demand: no wildcard means them. Envoy starts to
  use routes once it heard of any virtual host whose name begins like theirs, and asks for none if
  it did so for other routes. So it is told that a virtual host with nothing after the slash is
  gone, which none is ever called.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from collections.abc import Set as AbstractSet
from itertools import chain

from control_plane.xds.exchange import Exchange
from control_plane.xds.resource import WILDCARD, Resource
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription


class Meaning:
    """What one client means, of one type."""

    __slots__ = ("_exchange", "_not_given", "_on_demand", "_subscription")

    def __init__(
        self, resource_type: ResourceType, subscription: Subscription, exchange: Exchange
    ) -> None:
        """Start with a client that asked for nothing and has nothing."""
        self._on_demand = resource_type.part_of is not None
        self._subscription = subscription
        self._exchange = exchange
        self._not_given: frozenset[str] = frozenset()

    def stated(self, names: AbstractSet[str]) -> None:
        """Take note of what the client has from an earlier stream, where it got that by aliases."""
        if self._on_demand:
            self._not_given |= names

    def given_up(self, names: AbstractSet[str]) -> None:
        """Take note of names that the client gave up; no wildcard means what is sent on demand."""
        if self._on_demand:
            self._not_given |= names - {WILDCARD}

    def sent(self, resources: Iterable[Resource]) -> None:
        """Take note of what the client is sent, which it may have asked for by an alias."""
        self._not_given |= {each.name for each in resources if each.aliases}

    def settled(self) -> None:
        """Forget what the client does not have; to be called after it answered a response."""
        if self._not_given:
            owed, may_have = self._exchange.owed, self._exchange.may_have
            kept = (name for name in self._not_given if name in owed or may_have(name))
            self._not_given = frozenset(kept)

    def retain(self) -> None:
        """Forget what concerns names that the client does not want and need not be told of."""
        self._exchange.retain(self._concerns if self._not_given else self._subscription.wants)

    def _concerns(self, name: str) -> bool:
        return name in self._not_given or self._subscription.wants(name)

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> None:
        """Owe the client what it waits for once it was sent these resources of another type.

        Args:
            names: of the other type.
            there: the names of this type that there are.
        """
        if not self._on_demand:
            self._exchange.refresh(names, there)
            return
        beginnings = {f"{name}/" for name in names}
        self._not_given |= beginnings
        self._exchange.owed |= beginnings

    def of_interest(self, snapshot: TypeSnapshot) -> set[str]:
        """Return every name that the client wants, or has and may have to lose."""
        names, globs = self._subscription.names, self._subscription.globs
        if self._on_demand or not (self._subscription.wildcard or globs):
            return names | self._not_given if self._not_given else names
        if self._subscription.wildcard:
            listed = {*snapshot.resources, *names, *self._exchange.accepted}
        else:
            members = (snapshot.collections.get(glob, ()) for glob in globs)
            listed = {*names, *self._exchange.accepted, *chain.from_iterable(members)}
        listed = (listed | self._exchange.owed) - {WILDCARD}
        # A collection is told of by what is in it, and by its name if nothing is.
        return listed - snapshot.collections.keys() if snapshot.collections else listed

    def awaits_members(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client has asked for a collection that is not empty, and waits."""
        return not self._exchange.owed.isdisjoint(
            self._subscription.globs & snapshot.collections.keys()
        )

    def wants(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether a resource of this name is for the client, by whatever name it means it."""
        if not self._on_demand and self._subscription.wants(name):
            return True
        resource = snapshot.resources.get(name)
        aliases = resource.aliases if resource is not None else ()
        return not self._subscription.names.isdisjoint((name, *aliases))

    def find(self, name: str, snapshot: TypeSnapshot) -> Resource | None:
        """Return the resource that the client should have by a name."""
        if name in self._subscription.names:
            return snapshot.find(name)
        if name in self._not_given and not self.wants(name, snapshot):
            return None
        # An alias that is given up under a wildcard is answered with what it means.
        if name in self._exchange.owed:
            return snapshot.find(name)
        return snapshot.resources.get(name)

    def awaited(self, names: Iterable[str]) -> list[str]:
        """Return which of these names, which no resource has, hold up a request in the client."""
        if not self._on_demand:
            return []
        return [each for each in names if each in self._exchange.owed & self._subscription.names]
