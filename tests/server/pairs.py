"""A key and a certificate that needs no CA, for servers and clients alike."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping, Sequence
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
        alternatives = [x509.DNSName("localhost"), x509.UniformResourceIdentifier(SPIFFE), *others]
        return cls._of({x509.NameOID.COMMON_NAME: "test"}, alternatives)

    @classmethod
    def of_subject(cls, **attributes: str) -> Pair:
        """Make one that has a subject of these attributes, and no other names."""
        return cls._of({getattr(x509.NameOID, kind): text for kind, text in attributes.items()}, ())

    @classmethod
    def _of(
        cls,
        subject: Mapping[x509.ObjectIdentifier, str],
        alternatives: Sequence[x509.GeneralName],
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(kind, text) for kind, text in subject.items()])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        if alternatives:
            names = x509.SubjectAlternativeName(alternatives)
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self, client: Pair | None = None) -> ssl.SSLContext:
        """Return the TLS of a server that takes clients with this certificate, or with theirs."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, client or self)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, server: Pair | None = None) -> ssl.SSLContext:
        """Return the TLS of a client that takes a server with this certificate, or with its own."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, server or self)

    def _context(self, protocol: int, trusted: Pair) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.load_verify_locations(cadata=trusted.certificate.decode())
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(self.key + self.certificate)
            context.load_cert_chain(file.name)
        return context
