"""Certificates in the log: those that are not served although they were ACKed, until they are.

The rule of this module: a certificate that is not served is a warning, since an operator has to
act; and every such warning is followed by a line about its end. That all other certificates are
served is in the line of the change, so the line for a single one is for debugging. What a sidecar
reports may change without end; in that case it is only counted.
"""

from __future__ import annotations

import structlog

from control_plane import log_events
from control_plane.reconciler.certificates.ledger import CertificateState, Entry
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.observability.stream_log import shortened


class CertificateLog:
    """Logs which certificates handshakes show; observes the ledger."""

    def __init__(self, refusals: RefusalTally) -> None:
        """Log under this module's name.

        Args:
            refusals: told of an instance's reports that are too many for a line each.
        """
        self._refusals = refusals
        self._log = structlog.get_logger(__name__)

    def certified(self, entry: Entry, before: Entry | None) -> None:
        """Log that a certificate is served, or that it is not."""
        fields = {
            "instance": entry.record.instance_guid,
            "secret": entry.record.secret,
            "serial": f"{entry.record.serial:x}",
        }
        if entry.state is CertificateState.SERVED:
            if before is None or before.state is not CertificateState.NOT_SERVED:
                self._log.debug(log_events.CERTIFICATE_SERVED, **fields)
            elif self._has_line(entry):
                self._log.info(log_events.CERTIFICATE_SERVED, **fields)
        elif entry.state is CertificateState.NOT_SERVED and self._has_line(entry):
            reason = shortened(entry.reason)
            self._log.warning(log_events.CERTIFICATE_NOT_SERVED, **fields, reason=reason)

    def _has_line(self, entry: Entry) -> bool:
        limited = log_events.AUDIT_CERTIFICATES_LIMITED
        return self._refusals.has_line(limited, entry.record.instance_guid)
