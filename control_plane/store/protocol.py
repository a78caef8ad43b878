"""What a store does, so that another one, or a faulty one in a test, can stand in for SQLite.

The rule of this module: a store keeps rows and knows nothing of their meaning. When ``commit`` or
``record_issued`` returns, the rows survive a crash of the process and of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane.model.change import Change
from control_plane.model.entities import Entity
from control_plane.names import InstanceGuid


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """What is remembered of a certificate: enough to tell after a restart which instance holds it.

    The private key is not remembered, so the certificate itself would be of no use.

    Attributes:
        secret: the name of the xDS resource that carried it, such as ``c2c-cert-and-key``.
        version: the version of that resource.
        serial: the certificate's serial number.
        names: its subject alternative names, in order.
        issuer: the fingerprint of the CA certificate that it was signed with.
        sent_digest: the SHA-256 of the certificates sent after it; "" if an older release wrote the
            record.
        unacked: those of its names that may be in no certificate of the instance, because it ACKed
            none that has them.
    """

    instance_guid: InstanceGuid
    secret: str
    version: str
    serial: int
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    sent_digest: str = ""
    unacked: tuple[str, ...] = ()

    @property
    def acked(self) -> tuple[str, ...]:
        """The names that are in every certificate that the instance may have."""
        if not self.unacked:
            return self.names
        unacked = frozenset(self.unacked)
        return tuple(name for name in self.names if name not in unacked)


class Writer(Protocol):
    """Writes what has to outlive the process."""

    async def commit(
        self,
        change: Change,
        meanwhile: Callable[[], None] | None = None,
        records: Sequence[IssuedRecord] = (),
    ) -> None:
        """Write a change: after a crash, either all of it is there, or nothing.

        Args:
            change: what to write.
            meanwhile: called once, in the event loop, when only the disk is still awaited; the
                write may yet fail. A store may leave the call out.
            records: earlier certificates to remember with the change, as ``record_issued`` does.

        Raises:
            StorageError: the change was not written.
        """

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Remember certificates; each replaces the one before it of the same instance and secret.

        Raises:
            StorageError: they were not written.
        """


class Store(Writer, Protocol):
    """Keeps what has to outlive the process."""

    async def load(self) -> list[Entity]:
        """Return every entity; an entity that others refer to comes before them.

        Raises:
            ConfigurationError: what is on disk cannot be read.
        """

    async def issued(self) -> list[IssuedRecord]:
        """Return the newest record of each secret of each instance that exists.

        Raises:
            ConfigurationError: what is on disk cannot be read.
        """
