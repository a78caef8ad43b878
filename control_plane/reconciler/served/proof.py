"""Proof of serving: an instance that ACKed a certificate is looked at until it serves it.

The rule of this module: an ACK means accepted, not applied, so a certificate counts as served only
after a TLS handshake showed its serial. The sidecar beside the Envoy is the better witness. The
control plane connects itself only where no sidecar reports, and to a few instances at a time. A
certificate that is not served a second after its ACK is reported as not served, and is looked at
further, less and less often. While a crowd connects, its instances are sent their resources first;
the control plane looks at them when the crowd is over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.state import State
from control_plane.names import C2C_PORT, InstanceGuid
from control_plane.nodes import LiveStream, Nodes, StreamObserver
from control_plane.reconciler.backlog import CROWD, RUSH_SECONDS
from control_plane.reconciler.certificates.ledger import CertificateState, Entry, Ledger
from control_plane.reconciler.pace import Rush
from control_plane.reconciler.progress import Waiters
from control_plane.reconciler.served.attestation import FELL_SILENT, NOBODY_LOOKS, Attestation
from control_plane.reconciler.served.sight import Sight
from control_plane.reconciler.tasks import Tasks
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.delivery import has_version
from control_plane.xds.events import Acked, Event
from control_plane.xds.resource import Version
from control_plane.xds.resource_type import LISTENER, SECRET

GRACE_SECONDS = 1.0
"""How long after its ACK a certificate may take to be served; Envoy takes some milliseconds."""

CROWD_SECONDS = 60.0
"""For how much longer the look is put off while more and more instances connect."""

_FIRST_PAUSE = 0.002
_GROWTH = 5
_LONGEST_PAUSE = 60.0
"""The longest pause between two looks at an instance that does not serve; there may be thousands of
them."""


class Proof(StreamObserver):
    """Moves certificates on in the ledger; observes streams and the reports of sidecars."""

    def __init__(
        self,
        ledger: Ledger,
        state: Callable[[], State],
        nodes: Nodes,
        attestation: Attestation,
        sight: Sight,
        clock: Clock,
    ) -> None:
        """Look at instances through these."""
        self._ledger = ledger
        self._state = state
        self._nodes = nodes
        self._attestation = attestation
        self._sight = sight
        self._clock = clock
        self._rush = Rush(CROWD, RUSH_SECONDS)
        self._looking: Tasks[InstanceGuid] = Tasks()
        self._awaited: deque[tuple[float, Entry]] = deque()
        self._awaiting: asyncio.Task[None] | None = None
        self._waiters = Waiters(self._is_settled)

    def is_served(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance serves its newest certificate, or need not.

        It need not if it is not connected, or about to stop.
        """
        entry = self._ledger.get(instance, C2C_SECRET)
        if entry is None or not self._nodes.streams(instance) or self._sight.is_over(instance):
            return True
        return entry.state is CertificateState.SERVED

    def is_seen(self, instance: InstanceGuid) -> bool | None:
        """Tell whether a handshake showed the newest certificate; None if nobody can look."""
        if not self._sight.is_possible(instance):
            return None
        entry = self._ledger.get(instance, C2C_SECRET)
        return entry is not None and entry.state is CertificateState.SERVED

    def shown_serial(self, instance: InstanceGuid) -> int | None:
        """Return the serial last seen, by the sidecar or the control plane; None if none was."""
        return self._sight.last(instance)

    async def served(
        self, instances: Iterable[InstanceGuid], timeout: float
    ) -> frozenset[InstanceGuid]:
        """Wait until all serve their newest certificates; return those that still do not.

        Args:
            instances: the instances to wait for; those that are not connected or cannot be looked
                at are left out.
            timeout: the longest wait in seconds.
        """
        connected = filter(self._nodes.streams, instances)
        return await self._waiters.wait(filter(self._sight.is_possible, connected), timeout)

    def opened(self, _live: LiveStream) -> None:
        """Count a stream; what its client has is not known yet, and many more streams may open."""
        self._rush.note(self._clock.monotonic())

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Look whether a client now has its certificates, or has lost them."""
        instance = InstanceGuid(live.node_id)
        if SECRET in live.stream.machines:
            for entry in self._ledger.of(instance):
                if entry.state is CertificateState.NOT_SERVED and _listens(events):
                    self._looking.stop(instance)  # its port may have been taken, and be free now
                self._compare(entry)

    def closed(self, live: LiveStream) -> None:
        """Stop waiting for an instance if it will not be back."""
        self._waiters.note(InstanceGuid(live.node_id))

    def reported(self, instance: InstanceGuid) -> None:
        """Take what a sidecar has reported as served."""
        entry = self._ledger.get(instance, C2C_SECRET)
        if self._sight.is_over(instance):
            self._waiters.note(instance)
            return
        if entry is None or entry.state is CertificateState.ISSUED:
            return
        if self._attestation.served(instance) == entry.record.serial:
            self._move(entry, CertificateState.SERVED)
        elif entry.state is CertificateState.SERVED:
            self._move(entry, CertificateState.ACKED)
            self._look(entry)

    def gone(self, instance: InstanceGuid) -> None:
        """Stop waiting for an instance that is gone."""
        self._waiters.note(instance)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._sight.forget(instance)

    async def close(self) -> None:
        """Stop looking."""
        if self._awaiting is not None:
            self._awaiting.cancel()
            await asyncio.gather(self._awaiting, return_exceptions=True)
        await self._looking.close()

    def _compare(self, entry: Entry) -> None:
        instance = entry.record.instance_guid
        has_it = any(
            has_version(live.stream, SECRET, entry.record.secret, Version(entry.record.version))
            for live in self._nodes.streams(instance)
        )
        if not has_it:
            # Even if it had it before: a client that restarted begins with nothing.
            self._move(entry, CertificateState.ISSUED)
            return
        is_acked_now = entry.state is CertificateState.ISSUED
        if is_acked_now:
            self._move(entry, CertificateState.ACKED)
        if entry.record.secret == C2C_SECRET:
            if is_acked_now:
                # If the previous one was not served, the pauses between looks have grown too long
                # by now.
                self._looking.stop(instance)
            self._look(entry)

    def _look(self, entry: Entry) -> None:
        """Have an instance looked at until it serves its newest certificate.

        A sidecar reports by itself; only if it has not reported in time is the instance looked at.
        """
        instance, now = entry.record.instance_guid, self._clock.monotonic()
        if instance in self._looking or self.is_served(instance):
            return
        has_witness = self._attestation.witnessed(instance)
        if has_witness and self._attestation.served(instance) == entry.record.serial:
            self._move(entry, CertificateState.SERVED)
            return
        if not has_witness and not self._rush.is_on(now):
            self._start(instance, now + GRACE_SECONDS)
            return
        self._awaited.append((now + GRACE_SECONDS, entry))
        if self._awaiting is None:
            self._awaiting = asyncio.get_running_loop().create_task(self._await_reports())

    async def _await_reports(self) -> None:
        """Look at instances whose report has not come in time; one task is enough for all."""
        while self._awaited:
            at, entry = self._awaited[0]
            now = self._clock.monotonic()
            left = at - now
            if -CROWD_SECONDS < left <= 0 and self._rush.is_on(now):
                left = GRACE_SECONDS
            if left > 0:
                await self._clock.sleep(left)
                continue
            self._awaited.popleft()
            instance = entry.record.instance_guid
            newest = self._ledger.get(instance, C2C_SECRET)
            # If it has been replaced by now, the new one is awaited on its own.
            if newest is not None and newest.record is entry.record:
                self._start(instance, at)
        self._awaiting = None

    def _start(self, instance: InstanceGuid, overdue: float) -> None:
        if instance not in self._looking and not self.is_served(instance):
            self._looking.start(instance, self._until_served(instance, overdue))

    async def _until_served(self, instance: InstanceGuid, overdue: float) -> None:
        pause = _FIRST_PAUSE
        looked_for: IssuedRecord | None = None
        while not self.is_served(instance):
            entry = self._ledger.get(instance, C2C_SECRET)
            if entry is None or entry.state is CertificateState.ISSUED:
                return  # its ACK starts this anew
            if looked_for is not None and looked_for is not entry.record:
                pause, overdue = _FIRST_PAUSE, self._clock.monotonic() + GRACE_SECONDS
            looked_for = entry.record
            seen = await self._sight.look(instance)
            if self._ledger.get(instance, C2C_SECRET) is not entry:
                continue  # the entry changed meanwhile, which may have made this look worthless
            if seen == entry.record.serial:
                self._move(entry, CertificateState.SERVED)
                continue
            self._judge(entry, seen, is_overdue=self._clock.monotonic() >= overdue)
            await self._sight.pause(instance, pause, unheard=max(pause, GRACE_SECONDS))
            pause = min(_GROWTH * pause, _LONGEST_PAUSE)

    def _judge(self, entry: Entry, seen: int | str | None, *, is_overdue: bool) -> None:
        """Record why a certificate is not seen, once it should have been."""
        if seen is None:
            was_refuted = entry.state is CertificateState.NOT_SERVED
            self._move(entry, entry.state, FELL_SILENT if was_refuted else NOBODY_LOOKS)
        elif is_overdue:
            if isinstance(seen, int):
                # The sidecar may not have looked since, and nobody else looks while it reports.
                seen = f"the last TLS handshake with port {C2C_PORT} showed serial {seen:x}"
            self._move(entry, CertificateState.NOT_SERVED, seen)

    def _is_settled(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance serves its newest certificate, or will not be back."""
        entry, known = self._ledger.get(instance, C2C_SECRET), self._state().instance(instance)
        if self._nodes.streams(instance) or known is None or not known.status.is_there:
            return self.is_served(instance)
        return entry is None or entry.state is CertificateState.SERVED

    def _move(self, entry: Entry, state: CertificateState, reason: str = "") -> None:
        self._ledger.move(entry, state, reason)
        self._waiters.note(entry.record.instance_guid)


def _listens(events: Sequence[Event]) -> bool:
    """Tell whether a client ACKed listeners."""
    return any(isinstance(each, Acked) and each.type_url == LISTENER for each in events)
