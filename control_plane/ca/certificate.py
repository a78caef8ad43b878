"""Certificates from outside: what a certificate says, read from its bytes into plain values.

The rule of this module: bytes may come from anywhere, so they are read, or refused with one
sentence; nothing else is ever raised. Reading proves nothing: a caller that needs proof has
verified the chain in the handshake before.
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
"""What ``cryptography`` raises for bytes that it cannot read (found by mutating real ones)."""

Issuers = tuple[x509.Certificate, ...]
"""Certificates of CAs."""

T = TypeVar("T")

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

PEM_MARK = b"-----BEGIN"
"""Every PEM text contains this; any other bytes are taken for DER."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Attributes:
        fingerprint: SHA-256 of the DER bytes.
    """

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
    """Return the value of a certificate's extension, or None if it has none of this kind."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate names this issuer and is signed by the issuer's key."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Claims:
    """What a certificate says of its holder; reading this is a third of the work of reading it all.

    Attributes:
        issuer: in the notation of RFC 4514.
        uris: the URIs among its alternative names.
    """

    issuer: str
    serial: int
    uris: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def read_certificate(data: bytes) -> Certificate:
    """Read one certificate, PEM (the first of the file) or DER.

    Raises:
        InvalidArgument: the data is not a certificate, or its key is of a kind that we do not
            accept.
    """
    return _from(data, _read)


def read_claims(data: bytes) -> Claims:
    """Read the claims of one certificate, PEM (the first of the file) or DER.

    Raises:
        InvalidArgument: as ``read_certificate`` does.
    """
    return _from(data, _read_claims)


def is_signed_by(data: bytes, issuers: Issuers) -> bool:
    """Tell whether one of these CAs itself signed a certificate (the first of a PEM file, or DER).

    Raises:
        InvalidArgument: the data is not a certificate.
    """
    return _from(data, lambda certificate: any(is_issued_by(certificate, ca) for ca in issuers))


def read_certificates(pem: bytes) -> tuple[Certificate, ...]:
    """Read every certificate of a PEM file, in order: a chain or a trust bundle.

    Raises:
        InvalidArgument: the file has no certificate, or one that cannot be read.
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
        serial=certificate.serial_number,
        san=San() if names is None else read_san(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        public_key=accept_public_key(certificate.public_key(), field="certificate"),
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
    )
