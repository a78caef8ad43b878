"""Certificates as others see them: what one says, read from its bytes into plain values.

The rule of this module: bytes come from anywhere, so they are read or refused with one sentence,
and never raise anything else. Reading proves nothing; whoever needs proof has verified the chain in
the handshake before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca.keys import PublicKey, accept_public_key
from control_plane.ca.san import San, read_san
from control_plane.errors import InvalidArgument

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What ``cryptography`` raises for bytes that it cannot read (by mutating real ones)."""

Issuers = tuple[x509.Certificate, ...]
"""Certificates of CAs."""

T = TypeVar("T")

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

PEM_MARK = b"-----BEGIN"
"""Is in whatever is PEM; the rest is taken for DER."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Attributes:
        subject: as RFC 4514 writes it.
        issuer: as RFC 4514 writes it.
        fingerprint: SHA-256 of the DER bytes.
    """

    subject: str
    issuer: str
    serial: int
    san: San
    not_before: datetime
    not_after: datetime
    public_key: PublicKey
    fingerprint: str


def fingerprint(der: bytes) -> str:
    """Return SHA-256 of a certificate's DER bytes, as ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def extension_of(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return what an extension of a certificate says, or None if it has none of the kind."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether the issuer's name is in the certificate and its key signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Claims:
    """What a certificate says of its holder, which is a third of the work to read.

    Attributes:
        issuer: as RFC 4514 writes it.
        uris: of its alternative names.
    """

    issuer: str
    serial: int
    uris: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def read_certificate(data: bytes) -> Certificate:
    """Read one certificate, PEM (the first of the file) or DER.

    Raises:
        InvalidArgument: it is not a certificate, or its key is of a kind that we do not accept.
    """
    return _from(data, _read)


def read_claims(data: bytes) -> Claims:
    """Read whom one certificate is for, PEM (the first of the file) or DER.

    Raises:
        InvalidArgument: as ``read_certificate`` does.
    """
    return _from(data, _read_claims)


def is_signed_by(data: bytes, issuers: Issuers) -> bool:
    """Tell whether one of these CAs itself signed a certificate: PEM (the first of it) or DER.

    Raises:
        InvalidArgument: it is not a certificate.
    """
    return _from(data, lambda certificate: any(is_issued_by(certificate, ca) for ca in issuers))


def read_certificates(pem: bytes) -> tuple[Certificate, ...]:
    """Read every certificate of a PEM file, in its order: a chain or a trust bundle.

    Raises:
        InvalidArgument: it holds no certificate, or one that cannot be read.
    """
    try:
        return tuple(_read(each) for each in x509.load_pem_x509_certificates(pem))
    except UNREADABLE:
        raise InvalidArgument("not X.509 certificates in PEM", field="certificate") from None


def _from(data: bytes, read: Callable[[x509.Certificate], T]) -> T:
    is_pem = PEM_MARK in data
    load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
    try:
        return read(load(data))
    except UNREADABLE:
        raise InvalidArgument(
            "not an X.509 certificate in PEM or DER", field="certificate"
        ) from None


def _read_claims(certificate: x509.Certificate) -> Claims:
    names = extension_of(certificate, x509.SubjectAlternativeName)
    accept_public_key(certificate.public_key(), field="certificate")
    return Claims(
        issuer=certificate.issuer.rfc4514_string(),
        serial=certificate.serial_number,
        uris=() if names is None else read_san(names).uris,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _read(certificate: x509.Certificate) -> Certificate:
    names = extension_of(certificate, x509.SubjectAlternativeName)
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=certificate.serial_number,
        san=San() if names is None else read_san(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        public_key=accept_public_key(certificate.public_key(), field="certificate"),
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
    )
