"""The certificates whose end is watched, put together.

The rule of this module: it is only wiring. For every certificate that this control plane issued or
shows, something here watches its end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from control_plane.ca import Authority
from control_plane.reconciler.certificates.expiry import Kind, Own, ca_lead
from control_plane.server.credentials import ServerCertificate


def signing_ca(current: Callable[[], Authority], lifetime: timedelta) -> Own:
    """Return what to watch about the CA that signs."""

    def window() -> tuple[datetime, datetime]:
        authority = current()
        return authority.not_before, authority.not_after

    return Own(
        Kind.CA, "the CA", window, "rotate it, beginning with c2c ca prepare", ca_lead(lifetime)
    )


def shown(certificate: ServerCertificate) -> Own:
    """Return what to watch about the certificate of this control plane's ports.

    Reading it renews it if that is due, even if no client connected.
    """

    def window() -> tuple[datetime, datetime]:
        leaf = certificate.current()
        return leaf.not_before, leaf.not_after

    subject = "the control plane's own certificate"
    return Own(Kind.SERVER, subject, window, "not renewed, since the CA cannot issue")
