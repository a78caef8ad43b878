"""Which names an instance's resolver answers, and with which addresses.

The rule of this module: an app sees its own routes and those of the apps that its policies let it
reach, so a change concerns no other app. A name leads only to instances that are ready and whose
certificate has the name. And every name is below one of the table's domains, since a resolver
refuses a table with any other name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

from control_plane.api.v1 import name_table_pb2
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import MAX_HOSTNAME_OCTETS, AppGuid, Domain, Hostname, InstanceGuid
from control_plane.planner.shared import Shared
from control_plane.xds.resource import NOTHING, Resource, TypeUrl
from control_plane.xds.snapshot import TypeSnapshot

NAME_TABLE_TYPE = TypeUrl("type.googleapis.com/c2c.v1.NameTable")

NAME_TABLE = "name-table"
"""The name of the one resource of this type that each instance has."""

UNRESOLVED = TypeSnapshot.of(pending=[NAME_TABLE])
"""What an instance without a resolver has: a table that is made once a resolver asks for it."""

PublishedNames = Callable[[AppGuid], Collection[Hostname]]
"""Returns which routes of an app may be resolved by now."""

NotLed = Mapping[InstanceGuid, AbstractSet[Hostname]]
"""Which routes must not lead to some of an app's instances yet. It is remembered, so it must never
change."""

UncertifiedNames = Callable[[AppGuid], NotLed]
"""Returns which routes of an app must not lead to which of its instances yet."""


def none_uncertified(_: AppGuid) -> NotLed:
    """Say that every instance has a certificate with every route."""
    return NOTHING


_Facts = tuple[tuple[tuple[Hostname, ...], tuple[Instance, ...], NotLed], ...]
"""Everything that a table follows from: for each app within reach its routes, its instances, and
which of the routes do not lead to which of the instances."""

_Names = tuple[tuple[str, tuple[str, ...]], ...]

_REMEMBERED = 4096
"""The tables of how many apps are remembered; otherwise each instance's plan would make its table
anew."""


class NameTables:
    """Makes name tables; the instances of an app share one."""

    def __init__(self, domains: tuple[Domain, ...]) -> None:
        """Take the domains whose names are answered from the table alone."""
        self._domains = domains
        self._below = tuple(f".{domain}" for domain in domains)
        self._table = Shared(self._build)
        self._remembered: dict[AppGuid, tuple[_Facts, TypeSnapshot]] = {}

    def of(
        self,
        state: State,
        app: AppGuid,
        published: PublishedNames,
        uncertified: UncertifiedNames = none_uncertified,
    ) -> TypeSnapshot:
        """Return the name table of an app's instances."""
        facts = self._facts(state, app, published, uncertified)
        # Equal facts are nearly always the same objects, so comparing them costs nothing.
        made = self._remembered.get(app)
        if made is not None and made[0] == facts:
            return made[1]
        table = self._table(_names(facts, self._below))
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[app] = facts, table
        return table

    def forget(self, app: AppGuid) -> None:
        """Forget an app that was deleted."""
        self._remembered.pop(app, None)

    def _build(self, names: _Names) -> TypeSnapshot:
        table = name_table_pb2.NameTable(domains=self._domains)
        for name, addresses in names:
            table.names.add(name=name, addresses=addresses)
        body = table.SerializeToString(deterministic=True)
        return TypeSnapshot.of([Resource.of(NAME_TABLE_TYPE, NAME_TABLE, body)])

    def _facts(
        self, state: State, app: AppGuid, published: PublishedNames, uncertified: UncertifiedNames
    ) -> _Facts:
        within_reach = {app, *(policy.destination for policy in state.policies_from(app))}
        return tuple(
            [
                (tuple(published(each)), state.instances_of(each), uncertified(each))
                for each in sorted(within_reach)
            ]
        )


def _names(facts: _Facts, below: tuple[str, ...]) -> _Names:
    found: dict[str, tuple[str, ...]] = {}
    for hostnames, instances, uncertified in facts:
        ready = [each for each in instances if each.status is InstanceStatus.READY]
        everywhere = _addresses(ready)
        lacking = [uncertified.get(each.guid, frozenset()) for each in ready]
        some = frozenset(chain.from_iterable(lacking))
        for hostname in hostnames:
            if not hostname.endswith(below):
                continue  # its domain was taken out of the settings
            able, addresses = ready, everywhere
            if hostname in some:
                pairs = zip(ready, lacking, strict=True)
                able = [each for each, names in pairs if hostname not in names]
                addresses = _addresses(able)
            if able:
                _add(found, hostname, addresses)
            for each in able:
                per_index = f"{each.index}.{hostname}"
                if len(per_index) <= MAX_HOSTNAME_OCTETS:
                    _add(found, per_index, (each.address,))
    return tuple(sorted(found.items()))


def _addresses(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(sorted({each.address for each in instances}))


def _add(found: dict[str, tuple[str, ...]], name: str, addresses: tuple[str, ...]) -> None:
    """Let a name lead to these addresses, besides those of other apps that share the name."""
    others = found.get(name)
    found[name] = addresses if others is None else tuple(sorted({*others, *addresses}))
