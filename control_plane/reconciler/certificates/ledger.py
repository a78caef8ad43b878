"""How far each certificate is on its way from being issued to being served.

The rule of this module: it is told what happens and looks at nothing itself, so it costs nothing
until something happens. It knows what a certificate says, but never its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.store.protocol import IssuedRecord


class CertificateState(StrEnum):
    """How far a certificate is."""

    ISSUED = "issued"
    """Its instance has not ACKed it yet."""

    ACKED = "acked"
    """Its instance ACKed it; nobody has seen it served yet."""

    SERVED = "served"
    """A TLS handshake with its instance showed it."""

    NOT_SERVED = "not_served"
    """Its instance ACKed it, but a TLS handshake a while later did not show it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest certificate of one secret of one instance.

    Attributes:
        since: when it entered its state, in UTC.
        reason: why it is not served, or why that cannot be determined; "" otherwise.
    """

    record: IssuedRecord
    state: CertificateState
    since: datetime
    reason: str = ""


Observer = Callable[[Entry, Entry | None], None]
"""Called with each entry that is new or in another state, and with the entry that it replaces;
returns at once."""


class Ledger:
    """Every certificate that instances have or should have, by instance and secret."""

    def __init__(self, clock: Clock, records: Iterable[IssuedRecord] = ()) -> None:
        """Start with the certificates of an earlier run; whether they are in use is unknown."""
        self._clock = clock
        self._entries: dict[InstanceGuid, dict[str, Entry]] = {}
        self._observers: list[Observer] = []
        for each in records:
            self._put(Entry(each, CertificateState.ISSUED, clock.now()))

    def observe(self, observer: Observer) -> None:
        """Call an observer for everything that happens from now on."""
        self._observers.append(observer)

    def get(self, instance: InstanceGuid, secret: str) -> Entry | None:
        """Return the newest certificate of a secret."""
        return self._entries.get(instance, {}).get(secret)

    def of(self, instance: InstanceGuid) -> tuple[Entry, ...]:
        """Return the newest certificates of an instance, by the names of their secrets."""
        found = self._entries.get(instance, {})
        return tuple(found[secret] for secret in sorted(found))

    def issued(self, record: IssuedRecord) -> None:
        """Take a new certificate in place of the previous one."""
        self._tell(Entry(record, CertificateState.ISSUED, self._clock.now()))

    def move(self, entry: Entry, state: CertificateState, reason: str = "") -> None:
        """Set the state of a certificate, unless it was replaced meanwhile."""
        current = self.get(entry.record.instance_guid, entry.record.secret)
        if current is None or current.record is not entry.record:
            return
        if (current.state, current.reason) == (state, reason):
            return
        since = current.since if current.state is state else self._clock.now()
        moved = Entry(current.record, state, since, reason)
        if current.state is state:
            self._put(moved)
        else:
            self._tell(moved)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._entries.pop(instance, None)

    def _tell(self, entry: Entry) -> None:
        before = self._put(entry)
        for observer in self._observers:
            observer(entry, before)

    def _put(self, entry: Entry) -> Entry | None:
        """Set an entry, and return the one that was there."""
        of_instance = self._entries.setdefault(entry.record.instance_guid, {})
        before = of_instance.get(entry.record.secret)
        of_instance[entry.record.secret] = entry
        return before


def is_new(entry: Entry, before: Entry | None) -> bool:
    """Tell whether a certificate was issued, rather than moved to another state."""
    return before is None or before.record is not entry.record


def is_renewal(entry: Entry, before: Entry | None) -> bool:
    """Tell whether a certificate was issued with the same names as the previous one."""
    return (
        before is not None
        and before.record is not entry.record
        and before.record.names == entry.record.names
    )
