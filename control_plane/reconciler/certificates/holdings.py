"""Which certificates may be in use, so that no CA is removed while one of them leads to it.

The rule of this module: when in doubt, a certificate is in use. An issued certificate counts until
its instance has ACKed, or shown, one that was issued later: if no answer came, only the answer may
have been lost. A certificate of an instance that is away counts until it ends. After a restart
every recorded certificate is in doubt until the instance shows what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from control_plane.ca import InstanceIdentity
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.ledger import (
    CertificateState,
    Entry,
    Ledger,
    is_new,
)
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource_type import SECRET

IDENTITY = "identity"
"""The name under which an identity certificate is recorded; no xDS resource has that name."""

MAX_UNSEEN = 8
"""How many certificates of a secret, issued after the one that was ACKed, are kept, and likewise
how many identities, issued after the one that was shown. Of older ones only the newest of each CA
is kept, since it ends last."""

_ACCEPTED = (CertificateState.ACKED, CertificateState.SERVED)


def is_unused(record: IssuedRecord, nodes: Nodes) -> bool:
    """Tell whether a connected Envoy does not use a secret, and so will never ACK it.

    An Envoy with listeners of its operator's own may ask for the certificate of the C2C port only.
    """
    if record.secret in (C2C_SECRET, IDENTITY):
        return False
    machines = [each.stream.machines.get(SECRET) for each in nodes.streams(record.instance_guid)]
    asked = [each.subscription for each in machines if each is not None]
    return any(each.wants(C2C_SECRET) for each in asked) and not any(
        each.wants(record.secret) for each in asked
    )


class Holdings:
    """The certificates that may be in use: of each secret of an instance, and its identities.

    Certificates of an earlier run are in doubt until their instance shows what it has.
    """

    def __init__(self, ledger: Ledger, records: Iterable[IssuedRecord]) -> None:
        """Start with the records; follow the ledger from there on."""
        self._ledger = ledger
        # In the order of issue. The first certificate of a secret was ACKed, or none was; of the
        # identities none was shown.
        self._used: dict[InstanceGuid, dict[str, tuple[IssuedRecord, ...]]] = {}
        self._doubtful: dict[tuple[InstanceGuid, str], IssuedRecord] = {}
        self._identities: dict[InstanceGuid, InstanceIdentity] = {}
        self._last_ends: dict[InstanceGuid, datetime] = {}
        for each in records:
            self._used.setdefault(each.instance_guid, {})[each.secret] = (each,)
            self._doubtful[each.instance_guid, each.secret] = each
            if each.secret == IDENTITY:
                self._note_end(each.instance_guid, each.not_after)
        ledger.observe(self._moved)

    def identity_issued(self, record: IssuedRecord) -> None:
        """Take the record of a new identity; the previous one counts until the new one is shown."""
        self._add(record)
        self._note_end(record.instance_guid, record.not_after)

    def identity_seen(self, identity: InstanceIdentity) -> None:
        """Note which identity an instance uses."""
        instance = identity.instance_guid
        self._identities[instance] = identity
        self._note_end(instance, identity.not_after)
        self._doubtful.pop((instance, IDENTITY), None)
        used = self._used.get(instance, {})
        if IDENTITY in used:
            used[IDENTITY] = _issued_since(identity, used[IDENTITY])

    def identity(self, instance: InstanceGuid) -> InstanceIdentity | None:
        """Return the identity that an instance showed last; None if none since the start."""
        return self._identities.get(instance)

    def identity_ends(self, instance: InstanceGuid) -> datetime | None:
        """Return when the last known identity of an instance ends, whether it was shown or not.

        None if none is known.
        """
        return self._last_ends.get(instance)

    def of(self, instance: InstanceGuid) -> Iterator[IssuedRecord]:
        """Return the certificates that an instance is known to use: at most one of each secret.

        An identity is included only if the instance has not shown one.
        """
        for secret, records in self._used.get(instance, {}).items():
            if records and (secret != IDENTITY or instance not in self._identities):
                yield records[0]

    def possible(self, instance: InstanceGuid) -> Iterator[IssuedRecord]:
        """Return all certificates that an instance may use, except the identity shown last."""
        for records in self._used.get(instance, {}).values():
            yield from records

    def has_any(self, instance: InstanceGuid) -> bool:
        """Tell whether any certificate of an instance is known."""
        return instance in self._used or instance in self._identities

    def is_doubtful(self, record: IssuedRecord) -> bool:
        """Tell whether the instance of this record has not shown since the start what it has."""
        return self._doubtful.get((record.instance_guid, record.secret)) is record

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        for secret in self._used.pop(instance, {}):
            self._doubtful.pop((instance, secret), None)
        self._identities.pop(instance, None)
        self._last_ends.pop(instance, None)

    def _note_end(self, instance: InstanceGuid, end: datetime) -> None:
        self._last_ends[instance] = max(end, self._last_ends.get(instance, end))

    def _moved(self, entry: Entry, before: Entry | None) -> None:
        record = entry.record
        if entry.state in _ACCEPTED:
            self._used.setdefault(record.instance_guid, {})[record.secret] = (record,)
            self._doubtful.pop((record.instance_guid, record.secret), None)
        elif is_new(entry, before):
            self._add(record)

    def _add(self, record: IssuedRecord) -> None:
        used = self._used.setdefault(record.instance_guid, {})
        used[record.secret] = _without_excess((*used.get(record.secret, ()), record))


def _issued_since(
    shown: InstanceIdentity, records: tuple[IssuedRecord, ...]
) -> tuple[IssuedRecord, ...]:
    """Return the identities that were issued after the one that an instance showed.

    The shown identity may be missing: the newest record is lost if the process was killed before it
    was written.
    """
    for number, record in enumerate(records):
        if record.serial == shown.serial:
            return records[number + 1 :]
    return tuple(each for each in records if each.not_before >= shown.not_before)


def _without_excess(records: tuple[IssuedRecord, ...]) -> tuple[IssuedRecord, ...]:
    if len(records) <= 1 + MAX_UNSEEN:
        return records
    newest = {each.issuer: each.serial for each in records}
    older = (each for each in records[1:-MAX_UNSEEN] if newest[each.issuer] == each.serial)
    return (records[0], *older, *records[-MAX_UNSEEN:])
