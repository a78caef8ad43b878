"""Where each certificate is on its way from being issued to being served.

The rule of this module: it is told and looks at nothing itself, so it costs nothing until something
happens. It knows what a certificate says and never its key.
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
    """Where a certificate is."""

    ISSUED = "issued"
    """Its instance has not ACKed it yet."""

    ACKED = "acked"
    """Its instance ACKed it; nobody has seen it served yet."""

    SERVED = "served"
    """A TLS handshake with its instance showed it."""

    NOT_SERVED = "not_served"
    """Its instance ACKed it, and a TLS handshake a while later did not show it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest certificate of one secret of one instance.

    Attributes:
        since: since when it is in its state, in UTC.
        reason: why it is not served, or why nobody can tell; "" otherwise.
    """

    record: IssuedRecord
    state: CertificateState
    since: datetime
    reason: str = ""


Observer = Callable[[Entry, Entry | None], None]
"""Is told of each entry that is new or in another state, and of the entry that was there before; it
returns at once."""


class Ledger:
    """Every certificate that instances have or should have, by instance and secret."""

    def __init__(self, clock: Clock, records: Iterable[IssuedRecord] = ()) -> None:
        """Start with those of an earlier run, of which nobody knows whether they are in use."""
        self._clock = clock
        self._entries: dict[InstanceGuid, dict[str, Entry]] = {}
        self._observers: list[Observer] = []
        for each in records:
            self._put(Entry(each, CertificateState.ISSUED, clock.now()))

    def observe(self, observer: Observer) -> None:
        """Tell somebody of whatever happens from now on."""
        self._observers.append(observer)

    def get(self, instance: InstanceGuid, secret: str) -> Entry | None:
        """Return the newest certificate of a secret."""
        return self._entries.get(instance, {}).get(secret)

    def of(self, instance: InstanceGuid) -> tuple[Entry, ...]:
        """Return the newest certificates of an instance, by the names of their secrets."""
        found = self._entries.get(instance, {})
        return tuple(found[secret] for secret in sorted(found))

    def issued(self, record: IssuedRecord) -> None:
        """Take a new certificate in the place of the one before."""
        self._tell(Entry(record, CertificateState.ISSUED, self._clock.now()))

    def move(self, entry: Entry, state: CertificateState, reason: str = "") -> None:
        """Say where a certificate is now; one that was replaced meanwhile is nowhere."""
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
    """Tell whether a certificate was issued, and did not just move."""
    return before is None or before.record is not entry.record


def is_renewal(entry: Entry, before: Entry | None) -> bool:
    """Tell whether a certificate was issued that says the same as the one before."""
    return (
        before is not None
        and before.record is not entry.record
        and before.record.names == entry.record.names
    )
