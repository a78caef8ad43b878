"""Certificates in the log: which are not served although they were ACKed, and which are after all.

The rule of this module: a certificate that is not served is a warning, since somebody has to act;
and whoever sees a warning also sees its end. That all others are served is in the line of the
change, so the line for a single one is for debugging.
"""

from __future__ import annotations

import structlog

from control_plane import log_events
from control_plane.reconciler.certificates.ledger import CertificateState, Entry
from control_plane.server.observability.stream_log import shortened


class CertificateLog:
    """Writes what handshakes show to the log; observes the ledger."""

    def __init__(self) -> None:
        """Log under this module's name."""
        self._log = structlog.get_logger(__name__)

    def certified(self, entry: Entry, before: Entry | None) -> None:
        """Log that a certificate is served, or is not."""
        fields = {
            "instance": entry.record.instance_guid,
            "secret": entry.record.secret,
            "serial": f"{entry.record.serial:x}",
        }
        if entry.state is CertificateState.SERVED:
            was_late = before is not None and before.state is CertificateState.NOT_SERVED
            log = self._log.info if was_late else self._log.debug
            log(log_events.CERTIFICATE_SERVED, **fields)
        elif entry.state is CertificateState.NOT_SERVED:
            reason = shortened(entry.reason)
            self._log.warning(log_events.CERTIFICATE_NOT_SERVED, **fields, reason=reason)
