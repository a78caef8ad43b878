"""Certificates in the log: which are not served although they were ACKed, and which are after all.

The rule of this module: a certificate that is not served is a warning, since somebody has to act;
and whoever sees a warning also sees its end. That all others are served is in the line of the
change, so the line for a single one is for debugging. What a sidecar reports may change without
end; then it is counted.
"""

from __future__ import annotations

import structlog

from control_plane import log_events
from control_plane.reconciler.certificates.ledger import CertificateState, Entry
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.observability.stream_log import shortened


class CertificateLog:
    """Writes what handshakes show to the log; observes the ledger."""

    def __init__(self, refusals: RefusalTally) -> None:
        """Log under this module's name.

        Args:
            refusals: is told of what is too much of one instance for a line each.
        """
        self._refusals = refusals
        self._log = structlog.get_logger(__name__)

    def certified(self, entry: Entry, before: Entry | None) -> None:
        """Log that a certificate is served, or is not."""
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
