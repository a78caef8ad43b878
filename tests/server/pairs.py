"""A key and a certificate that needs no CA, for servers and clients alike."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SPIFFE = "spiffe://example.org/app/a/instance/node-1"


@dataclass(frozen=True, slots=True)
class Pair:
    """A self-signed certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    @classmethod
    def make(cls, *others: x509.GeneralName) -> Pair:
        """Make one for ``localhost`` that also says who a client is, and has other names."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        alternatives = [x509.DNSName("localhost"), x509.UniformResourceIdentifier(SPIFFE), *others]
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS of a server that takes clients with this very certificate."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS of a client that takes a server with this very certificate."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.load_verify_locations(cadata=self.certificate.decode())
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(self.key + self.certificate)
            context.load_cert_chain(file.name)
        return context
