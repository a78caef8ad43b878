"""The authority: the CA's certificate and key, what is sent after a leaf, what clients trust.

The rule of this module: an authority that exists can issue. What is sent (``chain``) and what is
trusted (``roots``) are kept apart. So are the certificates that a CA rotation adds to either,
because they decide neither how long a leaf may live nor which CA signed it.
"""

from __future__ import annotations

import hashlib
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
"""Bytes that TLS 1.3 adds to each certificate of the list: 3 for the length and 2 for the
extensions (RFC 8446, 4.4.2); TLS 1.2 adds only the 3."""

_PATH_LENGTH = 3


# No slots: cached_property needs the instance's dict. The cached values are needed for every leaf.
@dataclass(frozen=True, eq=False)
class Authority:
    """A CA that can issue.

    Attributes:
        certificate: the CA's own certificate.
        key: the CA's key pair.
        chain: the CA's certificate (sent even if it is a root, as in Cloud Foundry), then the
            intermediates above it.
        roots: the certificates that clients must trust.
        detour: certificates that are sent instead of our own root, for clients that trust only the
            root of another CA: our root as that CA signed it, then the certificates from that CA's
            own up to below its root.
        other_roots: further certificates that clients must trust, because leaves of another CA are
            in use.
    """

    certificate: x509.Certificate
    key: KeyPair = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    detour: tuple[x509.Certificate, ...] = ()
    other_roots: tuple[x509.Certificate, ...] = ()

    @cached_property
    def name(self) -> x509.Name:
        """The issuer of every leaf."""
        return self.certificate.subject

    @cached_property
    def name_octets(self) -> int:
        """The length of its name in DER."""
        return len(self.name.public_bytes())

    @cached_property
    def subject(self) -> str:
        """Its name as RFC 4514 writes it."""
        return self.name.rfc4514_string()

    @cached_property
    def below_root(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificate and the intermediates above it; nothing if it is a root."""
        return tuple(each for each in self.chain if each not in self.roots)

    @cached_property
    def path(self) -> tuple[x509.Certificate, ...]:
        """Every certificate from the CA's own up to its root."""
        return (*self.below_root, *self.roots)

    @cached_property
    def sent(self) -> tuple[x509.Certificate, ...]:
        """The certificates that a server sends after the leaf."""
        return (*self.below_root, *self.detour) if self.detour else self.chain

    @cached_property
    def not_before(self) -> datetime:
        """The first moment at which every certificate between a leaf and the root is valid."""
        return max(each.not_valid_before_utc for each in self.path)

    @cached_property
    def not_after(self) -> datetime:
        """The last moment at which every certificate between a leaf and the root is valid."""
        return min(each.not_valid_after_utc for each in self.path)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate."""
        return fingerprint(self.certificate.public_bytes(Encoding.DER))

    @cached_property
    def root_fingerprints(self) -> frozenset[str]:
        """SHA-256 of each of its own roots."""
        return frozenset(fingerprint(each.public_bytes(Encoding.DER)) for each in self.roots)

    @cached_property
    def sent_pem(self) -> bytes:
        """The certificates that a server sends after the leaf, in PEM."""
        return public_pem(self.sent)

    @cached_property
    def sent_digest(self) -> str:
        """SHA-256 of what a server sends after the leaf, to tell two such chains apart."""
        return hashlib.sha256(self.sent_pem).hexdigest()

    @cached_property
    def sent_octets(self) -> int:
        """How many bytes ``sent`` takes in the certificate list of a handshake."""
        return sum(ENTRY_OVERHEAD + len(each.public_bytes(Encoding.DER)) for each in self.sent)

    @cached_property
    def trust_bundle_pem(self) -> bytes:
        """What clients must trust, in PEM; in the same order whichever of two CAs signs."""
        trusted = {each.public_bytes(Encoding.DER): each for each in self.roots + self.other_roots}
        return public_pem(tuple(trusted[der] for der in sorted(trusted)))

    @cached_property
    def trusted_fingerprints(self) -> frozenset[str]:
        """SHA-256 of each certificate that clients must trust."""
        trusted = self.roots + self.other_roots
        return frozenset(fingerprint(each.public_bytes(Encoding.DER)) for each in trusted)

    @cached_property
    def unsent_roots_pem(self) -> bytes:
        """The trusted roots that are not in ``sent`` because of a detour.

        A client that knows the control plane by a root's fingerprint looks for that root in the
        chain that the server sends.
        """
        if not self.detour:
            return b""
        trusted = (*self.roots, *self.other_roots)
        return public_pem(tuple(each for each in trusted if each not in self.sent))

    @cached_property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """The extension by which a leaf names our key (RFC 5280, section 4.2.1.1)."""
        ours = extension_of(self.certificate, x509.SubjectKeyIdentifier)
        if ours is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public.key)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours)

    @cached_property
    def key_identifier_der(self) -> bytes:
        """The same extension in DER."""
        return self.key_identifier.public_bytes()


def create_authority(
    common_name: str, *, now: datetime, lifetime: timedelta, key: KeyPair, serial: int
) -> Authority:
    """Make a self-signed root.

    Its path length leaves room to cross-sign a later CA, even one of an operator's own PKI: a root
    with two CAs below it.

    Raises:
        InvalidArgument: the common name does not fit.
        IssuanceError: the serial number is not valid.
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
        .add_extension(x509.BasicConstraints(ca=True, path_length=_PATH_LENGTH), critical=True)
        .add_extension(CA_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public.key), critical=False)
        .sign(key.private, key.hash)
    )
    return Authority(certificate, key, chain=(certificate,), roots=(certificate,))


CA_KEY_USAGE = x509.KeyUsage(
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


def public_pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    """Return certificates in PEM, one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
