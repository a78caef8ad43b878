"""What one delta client means by its names, and which resources it has under other names.

The rules of this module:

- A client asks for a resource by its name or by an alias, and gives up either; but what it is sent,
  it has under the name. In ``removed_resources`` Envoy looks for that name, not for the alias that
  it asked for. So a resource with aliases is removed by its name. The name is remembered until the
  client has let go of the resource, which has to be removed once the client gave up its last name
  for it.
- Resources that are ``part_of`` others are sent on demand: a wildcard does not include them. Envoy
  starts to use a route configuration once it has heard of any virtual host whose name begins with
  ``<its name>/``, and does not ask for one if it asked for those of another route configuration
  before. So it is told that the virtual host with nothing after the slash is gone: no virtual host
  has that name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain

from control_plane.xds.exchange import Exchange
from control_plane.xds.resource import NO_NAMES, WILDCARD, Resource
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import Subscription
from control_plane.xds.xdstp import collection_of, is_glob


class Meaning:
    """What one client means by its names of one type."""

    __slots__ = ("_exchange", "_not_given", "_on_demand", "_subscription", "_told")

    def __init__(
        self, resource_type: ResourceType, subscription: Subscription, exchange: Exchange
    ) -> None:
        """Start with a client that asked for nothing and has nothing."""
        self._on_demand = resource_type.part_of is not None
        self._subscription = subscription
        self._exchange = exchange
        self._not_given: set[str] = set()
        self._told: AbstractSet[str] = NO_NAMES

    def stated(self, names: AbstractSet[str]) -> None:
        """Take note of names that the client has from an earlier stream, perhaps by aliases."""
        if self._on_demand:
            self._not_given |= names

    def given_up(self, names: AbstractSet[str]) -> None:
        """Take note of names that the client gave up, for a type that no wildcard covers."""
        if self._on_demand:
            self._not_given |= names - {WILDCARD}

    def sent(self, resources: Iterable[Resource], told: AbstractSet[str]) -> None:
        """Take note of resources that the client is sent and may have asked for by an alias.

        Args:
            resources: the resources in the response.
            told: every name about which the response tells something.
        """
        self._not_given |= {each.name for each in resources if each.aliases}
        self._told = self._not_given & told or NO_NAMES

    def settled(self) -> None:
        """Forget what the client does not have; called after it answered a response."""
        owed, may_have = self._exchange.owed, self._exchange.may_have
        self._not_given -= {each for each in self._told if each not in owed and not may_have(each)}

    def retain(self, among: AbstractSet[str] | None) -> None:
        """Forget names that the client neither wants nor has to be told about.

        Args:
            among: the names to examine; None for all.
        """
        wanted = self._concerns if self._not_given else self._subscription.wants
        self._exchange.retain(wanted, among)

    def _concerns(self, name: str) -> bool:
        return name in self._not_given or self._subscription.wants(name)

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> None:
        """Owe the client again what it waits for, as ``DeltaMachine.refresh`` says."""
        if not self._on_demand:
            self._refresh(names, there)
            return
        beginnings = {f"{name}/" for name in names}
        self._not_given |= beginnings
        self._exchange.owe(beginnings)

    def _refresh(self, names: AbstractSet[str], there: Container[str]) -> None:
        exchange, subscription = self._exchange, self._subscription
        # If the client does not ask for a collection yet, it will do so by itself.
        globs = subscription.globs & names
        if not exchange.refresh({each for each in names if not is_glob(each)}, there):
            globs = subscription.globs
            has_nothing = not exchange.accepted and exchange.in_flight is None
            if subscription.wildcard and has_nothing:
                exchange.owe({WILDCARD})
        members = exchange.known_in(globs)
        exchange.owe(members | (globs - {collection_of(each) for each in members}))

    def all_of_interest(self, snapshot: TypeSnapshot) -> Iterable[str]:
        """Return every name that may be of interest, and perhaps some that are not."""
        names, globs = self._subscription.names, self._subscription.globs
        if self._is_by_name():
            return names | self._not_given
        if self._subscription.wildcard:
            listed = {*snapshot.resources, *names, *self._exchange.accepted}
        else:
            members = (snapshot.collections.get(glob, ()) for glob in globs)
            listed = {*names, *self._exchange.accepted, *chain.from_iterable(members)}
        return listed | self._exchange.owed

    def among(self, names: AbstractSet[str]) -> AbstractSet[str]:
        """Return those of these names that may be of interest.

        If the client asks by name, the cost is bounded by the number of names that it asks for.
        """
        if self._is_by_name():
            return (names & self._subscription.names) | (names & self._not_given)
        return names

    def is_of_interest(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client wants this name, or has it and may have to lose it."""
        if self._is_by_name():
            return name in self._subscription.names or name in self._not_given
        # A collection is told through its members, or by its own name if it has none.
        if name == WILDCARD or name in snapshot.collections:
            return False
        if name in self._subscription.names or name in self._exchange.owed:
            return True
        if name in self._exchange.accepted:
            return True
        if self._subscription.wildcard:
            return name in snapshot.resources
        return collection_of(name) in self._subscription.globs

    def _is_by_name(self) -> bool:
        return self._on_demand or not (self._subscription.wildcard or self._subscription.globs)

    def awaits_members(self, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client asked for a collection that is not empty, and waits for it."""
        return not self._exchange.owed.isdisjoint(
            self._subscription.globs & snapshot.collections.keys()
        )

    def wants(self, name: str, snapshot: TypeSnapshot) -> bool:
        """Tell whether the client is subscribed to a resource, by its name or by an alias."""
        if not self._on_demand and self._subscription.wants(name):
            return True
        resource = snapshot.resources.get(name)
        aliases = resource.aliases if resource is not None else ()
        return not self._subscription.names.isdisjoint((name, *aliases))

    def find(self, name: str, snapshot: TypeSnapshot) -> Resource | None:
        """Return the resource that the client should have under a name."""
        if name in self._subscription.names:
            return snapshot.find(name)
        if name in self._not_given and not self.wants(name, snapshot):
            return None
        # If an alias is given up under a wildcard, the answer is the resource that it means.
        if name in self._exchange.owed:
            return snapshot.find(name)
        return snapshot.resources.get(name)

    def other_names(
        self, resources: Iterable[Resource], snapshot: TypeSnapshot
    ) -> Iterator[tuple[str, Resource]]:
        """Yield the names by which the client may mean those resources that have aliases."""
        for each in resources:
            names = (each.name, *each.aliases) if each.aliases else ()
            yield from ((name, each) for name in names if self.find(name, snapshot) is each)

    def awaited(self, names: Iterable[str]) -> list[str]:
        """Return those of these nonexistent names for which Envoy holds back a request."""
        if not self._on_demand:
            return []
        owed, asked = self._exchange.owed, self._subscription.names
        return [each for each in names if each in owed and each in asked]
