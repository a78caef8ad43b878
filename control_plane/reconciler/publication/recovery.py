"""What was about to happen to names when the control plane ended.

The rule of this module: it follows from the disk alone, so it is the same after a kill. A name that
was published and certified goes on as before; a name that was not yet waits as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from rpds import HashTrieMap

from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import MAX_HOSTNAME_OCTETS, AppGuid, Hostname, InstanceGuid
from control_plane.store.protocol import IssuedRecord

Lacking: TypeAlias = "HashTrieMap[InstanceGuid, frozenset[Hostname]]"
"""For the instances of one app: the routes that an instance may have no certificate for. Adding or
dropping an instance costs the same however many there are, and a reader that keeps an older map
goes on reading that one."""


def uncertified(state: State, records: Iterable[IssuedRecord]) -> dict[AppGuid, Lacking]:
    """Return the routes of each app for which its instances may have no certificate.

    An instance that has ever connected counts, ready or not: if no certificate can be issued when
    it is back, it becomes ready with its old one. An instance that never connected has none.
    """
    acked = {each.instance_guid: each.acked for each in records if each.secret == C2C_SECRET}
    found: dict[AppGuid, dict[InstanceGuid, frozenset[Hostname]]] = {}
    for instance in state.all_instances():
        if instance.status is InstanceStatus.REGISTERED:
            continue
        routes = frozenset(state.hostnames_of(instance.app_guid))
        if lacking := routes.difference(acked.get(instance.guid, ())):
            found.setdefault(instance.app_guid, {})[instance.guid] = lacking
    return {app: HashTrieMap(lacking) for app, lacking in found.items()}


def unmapped(
    state: State, records: Iterable[IssuedRecord]
) -> dict[InstanceGuid, frozenset[Hostname]]:
    """Return the routes that each ready instance's certificate has but its app no longer has.

    They were unmapped shortly before, and some resolver may still lead clients there by them.
    """
    found: dict[InstanceGuid, frozenset[Hostname]] = {}
    for record in records:
        instance = state.instance(record.instance_guid)
        if instance is None or record.secret != C2C_SECRET:
            continue
        if instance.status is InstanceStatus.READY:
            routes = _routes_besides(state.hostnames_of(instance.app_guid), instance, record)
            if routes:
                found[instance.guid] = routes
    return found


def _routes_besides(
    hostnames: Iterable[Hostname], instance: Instance, record: IssuedRecord
) -> frozenset[Hostname]:
    """Return the other routes in a certificate; each is in it with its per-index name too."""
    known, per_index = frozenset(hostnames), f"{instance.index}."
    others = {
        name
        for name in record.names
        if name not in known and name.removeprefix(per_index) not in known
    }
    return frozenset(
        Hostname(name)
        for name in others
        if per_index + name in others or len(per_index + name) > MAX_HOSTNAME_OCTETS
    )
