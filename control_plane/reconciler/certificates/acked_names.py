"""Which names an instance's certificate surely has, as remembered on disk.

The rule of this module: an ACK may be lost, so an instance may have its last ACKed certificate or
any that was issued after it. A name is sure if all of these certificates have it. The record of the
newest certificate marks those of its names that are not sure. So after a kill, no name leads to an
instance whose certificate may lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from control_plane.envoy.secrets import C2C_SECRET
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState, Entry, Ledger, is_new
from control_plane.store.protocol import IssuedRecord


class AckedNames:
    """Passes on the record of each issued certificate, and again once an ACK makes it sure."""

    def __init__(
        self,
        ledger: Ledger,
        records: Iterable[IssuedRecord],
        note: Callable[[IssuedRecord], None],
    ) -> None:
        """Start from the records on disk, and follow the ledger from there on.

        Args:
            note: remembers a record, and returns at once.
        """
        self._note = note
        self._sure: dict[InstanceGuid, tuple[str, ...]] = {}
        self._unsure: set[InstanceGuid] = set()
        for each in records:
            if each.secret == C2C_SECRET:
                self._take(each)
        ledger.observe(self._moved)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._sure.pop(instance, None)
        self._unsure.discard(instance)

    def _moved(self, entry: Entry, before: Entry | None) -> None:
        record = entry.record
        if record.secret != C2C_SECRET:
            if is_new(entry, before):
                self._note(record)
        elif is_new(entry, before):
            sure = frozenset(self._sure.get(record.instance_guid, ()))
            unacked = tuple(name for name in record.names if name not in sure)
            self._note(self._take(replace(record, unacked=unacked)))
        elif entry.state is not CertificateState.ISSUED and record.instance_guid in self._unsure:
            self._note(self._take(replace(record, unacked=()) if record.unacked else record))

    def _take(self, record: IssuedRecord) -> IssuedRecord:
        self._sure[record.instance_guid] = record.acked
        if record.unacked:
            self._unsure.add(record.instance_guid)
        else:
            self._unsure.discard(record.instance_guid)
        return record
