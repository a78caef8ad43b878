"""An instance with an Envoy, and somebody who looks whether it serves what it ACKed."""

from __future__ import annotations

import asyncio

from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.ledger import CertificateState, Entry, Ledger
from control_plane.reconciler.served.attestation import Attestation
from control_plane.reconciler.served.probe import Prober
from control_plane.reconciler.served.proof import Proof
from control_plane.reconciler.served.sight import Sight
from control_plane.store.protocol import IssuedRecord
from tests.unit.reconciler.worlds import C2C_SECRET, World

B0 = InstanceGuid("b0")
SOURCE = "10.9.9.9"
CLOSED = "connection refused"


class FakeProber(Prober):
    """Sees what the test says; it may be kept waiting."""

    def __init__(self) -> None:
        """See nothing at first."""
        super().__init__()
        self.shows: int | str = CLOSED
        self.looked: list[tuple[str, str | None]] = []
        self.hold: asyncio.Event | None = None

    async def served_serial(
        self,
        address: str,
        port: int,  # noqa: ARG002 - the prober's signature
        *,
        source: str | None = None,
    ) -> int | str:
        """Return what the test says."""
        self.looked.append((address, source))
        shows = self.shows
        if self.hold is not None:
            await self.hold.wait()
        return shows


class Scene(World):
    """An instance with an Envoy, and somebody who looks at it."""

    def __init__(self, state: State, *, source: str | None = SOURCE) -> None:
        """Start with nobody connected."""
        super().__init__(state)
        self.ledger = Ledger(self.clock)
        self.attestation = Attestation(self.clock)
        self.prober = FakeProber()
        sight = Sight(
            lambda: self.state, self.attestation, self.clock, prober=self.prober, source=source
        )
        self.proof = Proof(
            self.ledger, lambda: self.state, self.nodes, self.attestation, sight, self.clock
        )
        self.nodes.observe(self.proof)
        self.attestation.observe(self.proof.reported)

    def _note(self, record: IssuedRecord) -> None:
        super()._note(record)
        self.ledger.issued(record)

    @property
    def entry(self) -> Entry:
        """The certificate for the routes of the instance."""
        found = self.ledger.get(B0, C2C_SECRET)
        assert found is not None
        return found

    def stands(self, state: str) -> bool:
        """Tell whether it is in this state."""
        return self.entry.state == state

    def standing(self) -> tuple[CertificateState, str]:
        """Return how far it is, and why no further."""
        return self.entry.state, self.entry.reason

    def show_newest(self) -> int:
        """Have Envoy serve what it ACKed."""
        self.prober.shows = self.entry.record.serial
        return self.prober.shows
