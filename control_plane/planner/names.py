"""Which names an instance's resolver answers, and with which addresses.

The rule of this module: an app sees the routes of the apps that its policies let it reach, and its
own, so a change concerns nobody else; a name leads only to instances that are ready; and every name
is below one of the domains that the table is for, since a resolver refuses any other table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

from control_plane.api.v1 import name_table_pb2
from control_plane.model.entities import InstanceStatus
from control_plane.model.state import State
from control_plane.names import MAX_HOSTNAME_OCTETS, AppGuid, Domain, Hostname
from control_plane.xds.resource import Resource, TypeUrl

NAME_TABLE_TYPE = TypeUrl("type.googleapis.com/c2c.v1.NameTable")

NAME_TABLE = "name-table"
"""The name of the one resource of this type that each instance has."""

PublishedNames = Callable[[AppGuid], Collection[Hostname]]
"""Tells which of an app's routes may be resolved by now."""

_Names = tuple[tuple[str, tuple[str, ...]], ...]


class NameTables:
    """Makes name tables; the instances of an app share theirs."""

    def __init__(self, domains: tuple[Domain, ...]) -> None:
        """Take the domains that are answered from the table alone."""
        self._domains = domains
        self._below = tuple(f".{domain}" for domain in domains)
        self._table = lru_cache(1024)(self._build)

    def of(self, state: State, app: AppGuid, published: PublishedNames) -> Resource:
        """Return the name table of an app's instances."""
        return self._table(self._names(state, app, published))

    def _build(self, names: _Names) -> Resource:
        table = name_table_pb2.NameTable(domains=self._domains)
        for name, addresses in names:
            table.names.add(name=name, addresses=addresses)
        body = table.SerializeToString(deterministic=True)
        return Resource.of(NAME_TABLE_TYPE, NAME_TABLE, body)

    def _names(self, state: State, app: AppGuid, published: PublishedNames) -> _Names:
        within_reach = {app, *(policy.destination for policy in state.policies_from(app))}
        addresses: dict[str, set[str]] = {}
        for destination in within_reach:
            # Routes may be left from before their domain was taken out of the settings.
            hostnames = [each for each in published(destination) if each.endswith(self._below)]
            for instance in state.instances_of(destination) if hostnames else ():
                if instance.status is not InstanceStatus.READY:
                    continue
                for hostname in hostnames:
                    addresses.setdefault(hostname, set()).add(instance.address)
                    per_index = f"{instance.index}.{hostname}"
                    if len(per_index) <= MAX_HOSTNAME_OCTETS:
                        addresses.setdefault(per_index, set()).add(instance.address)
        return tuple((name, tuple(sorted(addresses[name]))) for name in sorted(addresses))
