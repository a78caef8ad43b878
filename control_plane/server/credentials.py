"""The control plane's own certificate, and the TLS of its ports.

The rule of this module: a port that gives anything away asks for a client certificate and verifies
it in the handshake, before a byte of any message is read. Each handshake checks whether the
server's certificate is due, so the certificate is renewed without a timer and without touching a
connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import grpc
import structlog

from control_plane import log_events
from control_plane.ca import (
    Authority,
    KeyFactory,
    Leaf,
    Profile,
    ServerRequest,
    TrustDomain,
    issue,
    renew_at,
)
from control_plane.clock import Clock
from control_plane.errors import FailedPrecondition, IssuanceError
from control_plane.names import SERVER_NAME

_RETRY_SECONDS = 5.0
"""How long a CA that could not issue is left alone, however many handshakes there are."""


class ServerCertificate:
    """The certificate of the control plane's ports, renewed when half of its life is over."""

    def __init__(
        self,
        authority: Callable[[], Authority],
        trust_domain: TrustDomain,
        addresses: tuple[str, ...],
        *,
        profile: Profile,
        new_key: KeyFactory,
        new_serial: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Issue the first certificate.

        Args:
            authority: returns the CA that signs the certificate, and that clients must be signed
                by, as it is at that moment.
            trust_domain: the trust domain of this control plane.
            addresses: the IP addresses and DNS names by which clients reach the control plane.
            profile: how long the certificate lives.
            new_key: makes the keys of the certificates.
            new_serial: gives the serial numbers.
            clock: tells when to renew.
        """
        self._authority = authority
        names = tuple(each for each in addresses if not _is_address(each))
        ips = tuple(each for each in addresses if _is_address(each))
        self._request = ServerRequest(trust_domain, (SERVER_NAME, "localhost", *names), ips)
        self._profile = profile
        self._new_key = new_key
        self._new_serial = new_serial
        self._clock = clock
        self._log = structlog.get_logger(__name__)
        self._lock = threading.Lock()
        self._sent = b""
        self._retry_at = 0.0
        self._leaf = self._issue()

    def current(self) -> Leaf:
        """Return the certificate to show now; gRPC calls this from threads of its own."""
        with self._lock:
            if not self._is_good() and self._clock.monotonic() >= self._retry_at:
                self._renew()
            return self._leaf

    def client_roots(self) -> bytes:
        """Return the CA certificates that clients' certificates must now be signed below."""
        return self._authority().trust_bundle_pem

    def chain_pem(self, leaf: Leaf) -> bytes:
        """Return the chain to send, root included: clients may know us by a root's fingerprint."""
        return leaf.certificate_chain_pem + self._authority().unsent_roots_pem

    def credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """Return the TLS of one port.

        Args:
            client_certificates: whether clients have to show a certificate that our CA signed.
        """
        shown = _Shown(self, client_certificates=client_certificates)
        # The stubs of grpc do not know that None means "as before".
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", shown.if_changed)
        return grpc.dynamic_ssl_server_credentials(
            shown.configuration(), fetch, client_certificates
        )

    def _is_good(self) -> bool:
        """Tell whether the certificate can stay; the clock may have been set back since."""
        leaf = self._leaf
        at = renew_at(leaf.not_before, leaf.not_after, SERVER_NAME)
        is_valid = leaf.not_before <= self._clock.now() < at
        return is_valid and self._sent == self._authority().sent_pem

    def _renew(self) -> None:
        """Replace the certificate; if the CA cannot issue now, the old one goes on being shown."""
        try:
            self._leaf = self._issue()
        except (FailedPrecondition, IssuanceError) as error:
            self._log.error(log_events.CERTIFICATE_FAILED, secret=SERVER_NAME, reason=str(error))
            self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
            return
        self._log.info(
            log_events.SERVER_CERTIFICATE_RENEWED,
            serial=f"{self._leaf.serial:x}",
            not_after=self._leaf.not_after,
        )

    def _issue(self) -> Leaf:
        authority = self._authority()
        leaf = issue(
            authority,
            self._profile,
            self._request,
            key=self._new_key,
            now=self._clock.now(),
            serial=self._new_serial(),
        )
        self._sent = authority.sent_pem
        return leaf


class _Shown:
    """What one port shows and trusts, and whether that is still current."""

    def __init__(self, certificate: ServerCertificate, *, client_certificates: bool) -> None:
        self._certificate = certificate
        self._asks = client_certificates
        self._last: tuple[Leaf, bytes] | None = None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what to show and which CAs to trust, and remember it."""
        leaf, roots = self._last = self._newest()
        pair = (leaf.private_key_pem or b"", self._certificate.chain_pem(leaf))
        return grpc.ssl_server_certificate_configuration([pair], roots if self._asks else None)

    def if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what to show and trust if that has changed; called in each handshake."""
        return None if self._newest() == self._last else self.configuration()

    def _newest(self) -> tuple[Leaf, bytes]:
        return self._certificate.current(), self._certificate.client_roots()


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()
