"""The authority: the CA's certificate and key, what is sent after leaves, what clients trust.

The rule of this module: an authority that exists can issue. What is sent (``chain``) and what is
trusted (``roots``) are kept apart, so that during a CA rotation the new CA can send its certificate
as the old one signed it, while both are trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca.certificate import extension_of, fingerprint
from control_plane.ca.keys import KeyPair
from control_plane.ca.profile import MAX_BACKDATE, check_serial
from control_plane.ca.subject import Subject

ENTRY_OVERHEAD = 5
"""Bytes that TLS 1.3 adds to each certificate of the list: 3 of length and 2 of extensions (RFC
8446, 4.4.2); TLS 1.2 adds the 3 only."""


# No slots: cached_property needs the instance's dict. What it caches is asked for with every leaf.
@dataclass(frozen=True, eq=False)
class Authority:
    """A CA that can issue.

    Attributes:
        certificate: the CA's own certificate.
        key: its key pair.
        chain: what a server sends after the leaf: the CA's certificate, as Cloud Foundry does also
            for a root, then the intermediates above it.
        roots: what clients must trust.
    """

    certificate: x509.Certificate
    key: KeyPair = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @cached_property
    def name(self) -> x509.Name:
        """The issuer of every leaf."""
        return self.certificate.subject

    @property
    def _path(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.chain, *self.roots)

    @cached_property
    def not_before(self) -> datetime:
        """The first moment at which every certificate between a leaf and the root is valid."""
        return max(each.not_valid_before_utc for each in self._path)

    @cached_property
    def not_after(self) -> datetime:
        """The last moment at which every certificate between a leaf and the root is valid."""
        return min(each.not_valid_after_utc for each in self._path)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate."""
        return fingerprint(self.certificate.public_bytes(Encoding.DER))

    @cached_property
    def chain_pem(self) -> bytes:
        """What a server sends after the leaf."""
        return _pem(self.chain)

    @cached_property
    def chain_bytes(self) -> int:
        """What the chain takes in the certificate list of a handshake."""
        return sum(ENTRY_OVERHEAD + len(each.public_bytes(Encoding.DER)) for each in self.chain)

    @cached_property
    def certificate_pem(self) -> bytes:
        """The CA's own certificate."""
        return _pem((self.certificate,))

    @cached_property
    def trust_bundle_pem(self) -> bytes:
        """What clients must trust."""
        return _pem(self.roots)

    @cached_property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """The extension by which a leaf names our key (RFC 5280, section 4.2.1.1)."""
        ours = extension_of(self.certificate, x509.SubjectKeyIdentifier)
        if ours is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public.key)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours)


def create_authority(
    common_name: str, *, now: datetime, lifetime: timedelta, key: KeyPair, serial: int
) -> Authority:
    """Make a self-signed root.

    Its path length is 1, not 0: a later CA can then be cross-signed by this one.

    Raises:
        InvalidArgument: the common name does not fit.
        IssuanceError: the serial is not one.
    """
    check_serial(serial)
    name = Subject(common_name).name()
    now = now.replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public.key)
        .serial_number(serial)
        .not_valid_before(now - MAX_BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_CA_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public.key), critical=False)
        .sign(key.private, key.hash)
    )
    return Authority(certificate, key, chain=(certificate,), roots=(certificate,))


_CA_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
