"""Which certificates may be in use, so that nobody takes away a CA that some of them lead to.

The rule of this module: when in doubt a certificate is in use. One that was replaced counts until
its instance has accepted the new one; one that is held by an instance that is away counts until it
ends. After a restart everything that is on record is in doubt until the instance is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from control_plane.ca import InstanceIdentity
from control_plane.envoy.listeners import C2C_SECRET
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.ledger import CertificateState, Entry, Ledger
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource_type import SECRET

IDENTITY = "identity"
"""What an identity certificate is recorded as; no xDS resource has that name."""

_ACCEPTED = (CertificateState.ACKED, CertificateState.SERVED)


def is_unused(record: IssuedRecord, nodes: Nodes) -> bool:
    """Tell whether an Envoy that is connected has no use for a secret, and so never accepts it.

    One with listeners of somebody's own may ask for the certificate of the C2C port only.
    """
    if record.secret in (C2C_SECRET, IDENTITY):
        return False
    machines = [each.stream.machines.get(SECRET) for each in nodes.streams(record.instance_guid)]
    asked = [each.subscription for each in machines if each is not None]
    return any(each.wants(C2C_SECRET) for each in asked) and not any(
        each.wants(record.secret) for each in asked
    )


class Holdings:
    """The certificate of each secret and identity of each instance that may be in use.

    Those of an earlier run are in doubt until their instance shows what it has.
    """

    def __init__(self, ledger: Ledger, records: Iterable[IssuedRecord]) -> None:
        """Start with what is on record; follow the ledger from there on."""
        self._ledger = ledger
        self._used: dict[InstanceGuid, dict[str, IssuedRecord]] = {}
        self._doubtful: set[tuple[InstanceGuid, str]] = set()
        self._identities: dict[InstanceGuid, InstanceIdentity] = {}
        self._last_ends: dict[InstanceGuid, datetime] = {}
        for each in records:
            self._used.setdefault(each.instance_guid, {})[each.secret] = each
            self._doubtful.add((each.instance_guid, each.secret))
            if each.secret == IDENTITY:
                self._note_end(each.instance_guid, each.not_after)
        ledger.observe(self._moved)

    def identity_issued(self, record: IssuedRecord) -> None:
        """Take the record of a new identity; the one before is in use until this one is shown."""
        used = self._used.setdefault(record.instance_guid, {})
        if record.instance_guid not in self._identities:
            used[IDENTITY] = record
        self._note_end(record.instance_guid, record.not_after)

    def identity_seen(self, identity: InstanceIdentity) -> None:
        """Note which identity an instance uses."""
        instance = identity.instance_guid
        self._identities[instance] = identity
        self._note_end(instance, identity.not_after)
        self._doubtful.discard((instance, IDENTITY))

    def identity(self, instance: InstanceGuid) -> InstanceIdentity | None:
        """Return the identity that an instance showed last; None if it showed none since start."""
        return self._identities.get(instance)

    def identity_ends(self, instance: InstanceGuid) -> datetime | None:
        """Return when the last of the identities ends that are known of an instance, shown or not.

        None if none is known.
        """
        return self._last_ends.get(instance)

    def of(self, instance: InstanceGuid) -> Iterator[IssuedRecord]:
        """Return what is known of the certificates that an instance may be using."""
        for record in self._used.get(instance, {}).values():
            if record.secret != IDENTITY or instance not in self._identities:
                yield record

    def has_any(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance ever had a certificate that is known of."""
        return instance in self._used or instance in self._identities

    def is_doubtful(self, record: IssuedRecord) -> bool:
        """Tell whether its instance has not shown since the start what it has."""
        return (record.instance_guid, record.secret) in self._doubtful

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        for secret in self._used.pop(instance, {}):
            self._doubtful.discard((instance, secret))
        self._identities.pop(instance, None)
        self._last_ends.pop(instance, None)

    def _note_end(self, instance: InstanceGuid, end: datetime) -> None:
        self._last_ends[instance] = max(end, self._last_ends.get(instance, end))

    def _moved(self, entry: Entry, _before: Entry | None) -> None:
        record = entry.record
        used = self._used.setdefault(record.instance_guid, {})
        if entry.state in _ACCEPTED:
            used[record.secret] = record
            self._doubtful.discard((record.instance_guid, record.secret))
        elif record.secret not in used:
            used[record.secret] = record
