"""What was about to happen to names when the control plane ended.

The rule of this module: it follows from what is on the disk alone, so that it is the same after a
kill. What was published and certified goes on as it was; what was not waits as it did.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.envoy.listeners import C2C_SECRET
from control_plane.model.entities import InstanceStatus
from control_plane.model.state import State
from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.store.protocol import IssuedRecord


def uncertified(
    state: State, records: Iterable[IssuedRecord]
) -> dict[AppGuid, frozenset[tuple[Hostname, InstanceGuid]]]:
    """Return which routes of each app its instances may have no certificate with.

    It is about those that are ready, since names lead to nobody else; who becomes ready later has
    ACKed its certificate by then.
    """
    acked = {each.instance_guid: each.acked for each in records if each.secret == C2C_SECRET}
    found: dict[AppGuid, set[tuple[Hostname, InstanceGuid]]] = {}
    for instance in state.all_instances():
        if instance.status is not InstanceStatus.READY:
            continue
        names = frozenset(acked.get(instance.guid, ()))
        for hostname in state.hostnames_of(instance.app_guid):
            if hostname not in names:
                found.setdefault(instance.app_guid, set()).add((hostname, instance.guid))
    return {app: frozenset(pairs) for app, pairs in found.items()}
