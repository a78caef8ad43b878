"""How inspection shows values that several of its answers have.

The rule of this module: times are in UTC, serial numbers in hexadecimal, states in the words of the
API; what is not known is absent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.v1 import inspection_pb2
from control_plane.clock import Clock
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.certificates.expiry import Expiry
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.reconciler.membership.status import Word
from control_plane.reconciler.served.attestation import Attestation
from control_plane.reconciler.served.proof import Proof
from control_plane.xds.delivery import ConfigStatus

AT_ONCE = 50
"""How many instances are looked at before other tasks get a turn; one takes some 50
microseconds."""

STATUS = {
    ConfigStatus.SYNCED: inspection_pb2.CONFIG_STATUS_SYNCED,
    ConfigStatus.NOT_SENT: inspection_pb2.CONFIG_STATUS_NOT_SENT,
    ConfigStatus.STALE: inspection_pb2.CONFIG_STATUS_STALE,
    ConfigStatus.ERROR: inspection_pb2.CONFIG_STATUS_ERROR,
}

_CERTIFICATE = {
    CertificateState.ISSUED: inspection_pb2.CERTIFICATE_STATE_ISSUED,
    CertificateState.ACKED: inspection_pb2.CERTIFICATE_STATE_ACKED,
    CertificateState.SERVED: inspection_pb2.CERTIFICATE_STATE_SERVED,
    CertificateState.NOT_SERVED: inspection_pb2.CERTIFICATE_STATE_NOT_SERVED,
}


@dataclass(frozen=True, slots=True)
class Inspected:
    """What inspection looks at.

    Attributes:
        state: returns the newest State.
        revision: returns the revision of the newest State.
        plan_failure: says why an instance keeps an old plan; "" if it does not.
        behind: says why what an instance should have is not on its way to it; "" if it is.
        word: returns what a sidecar said last about its instance; None if it said nothing.
        has_identity: tells whether an instance was given an identity.
        absence: says what it means that no instance is connected; "" if it means nothing.
        ca_rotation: says what a CA rotation waits for; "" if none is under way.
    """

    state: Callable[[], State]
    revision: Callable[[], int]
    plan_failure: Callable[[InstanceGuid], str]
    behind: Callable[[InstanceGuid], str]
    nodes: Nodes
    ledger: Ledger
    proof: Proof
    attestation: Attestation
    custody: Custody
    expiry: Expiry
    word: Callable[[InstanceGuid], Word | None]
    has_identity: Callable[[InstanceGuid], bool]
    absence: Callable[[], str]
    ca_rotation: Callable[[], Awaitable[str]]
    clock: Clock

    def moment(self, monotonic: float | None) -> Timestamp | None:
        """Return a time of the server's monotonic clock as a timestamp of the API."""
        if monotonic is None:
            return None
        ago = timedelta(seconds=self.clock.monotonic() - monotonic)
        return timestamp(self.clock.now() - ago)


def certificate_state(
    instance: Instance, state: CertificateState
) -> inspection_pb2.CertificateState.ValueType:
    """Return how far a certificate has got; what a gone instance serves is not known."""
    if instance.status is InstanceStatus.GONE:
        return inspection_pb2.CERTIFICATE_STATE_NONE
    return _CERTIFICATE[state]


def timestamp(moment: datetime) -> Timestamp:
    """Return a time as a timestamp of the API."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def hexadecimal(serial: int | None) -> str:
    """Return a serial number in the form in which certificates are compared by it; "" for none."""
    return "" if serial is None else f"{serial:x}"
