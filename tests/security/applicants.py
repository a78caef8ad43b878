"""Somebody at the enrolment port, with a token that is good and whatever else a test wants.

The rule of this module: to be refused means that nothing changed, that the audit log has who tried
and why not, and that no log has the token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import enrollment_pb2, enrollment_pb2_grpc
from control_plane.ca import make_csr, new_key_pair
from tests.security.holders import nobody
from tests.security.world import Status, refused, ticket, told
from tests.sidecar.platform import Platform
from tests.sidecar.process import Ticket


@dataclass(frozen=True, slots=True)
class Applicant:
    """Somebody at the enrolment port, with a token that is good."""

    cf: Platform
    ticket: Ticket

    async def enrol(self, **fields: str | bytes) -> enrollment_pb2.EnrollResponse:
        """Enrol, in all that is not said otherwise as one should."""
        chosen: dict[str, Any] = {
            "token": self.ticket.token,
            "csr": make_csr(new_key_pair()),
            **fields,
        }
        async with nobody(self.cf).connect(self.cf.running.enroll_address) as channel:
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            return await stub.Enroll(enrollment_pb2.EnrollRequest(**chosen))

    async def is_refused(self, **fields: str | bytes) -> Status:
        """Enrol in vain: nothing changes, the audit log has it, and no log has the token."""
        before = self.cf.running.core.registry.state
        with capture_logs() as lines:
            code, details = await refused(self.enrol(**fields))

        assert self.cf.running.core.registry.state is before
        assert not told(lines, log_events.AUDIT_ENROLLED)
        (line,) = told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)
        assert line["reason"] == details
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert self.ticket.token not in repr(lines)
        return code, details


async def applicant(cf: Platform, *, app: str = "app-b", uses: int = 1) -> Applicant:
    """Return somebody with a token for one enrolment of an app, at addresses 127.0.2.*."""
    return Applicant(cf, await ticket(cf, app, "127.0.2.0/24", uses=uses))
