"""The last step of issuing: the certificate is read back and compared with its request.

The rule of this module: it trusts nothing that the signer did, and no other module makes a
``Leaf``. So everything that can be published has been linted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from control_plane.ca.authority import ENTRY_OVERHEAD
from control_plane.ca.certificate import UNREADABLE, is_issued_by
from control_plane.ca.keys import PublicKey, load_key_pair
from control_plane.ca.profile import MAX_BACKDATE
from control_plane.ca.san import San
from control_plane.ca.signer import Signed
from control_plane.ca.template import Prepared, extended_key_usage
from control_plane.errors import InvalidArgument, IssuanceError
from control_plane.names import shown

_DIGITAL_SIGNATURE_ONLY = bytes.fromhex("03020780")
"""The key usage of a leaf in DER: a BIT STRING with only the first bit set (RFC 5280, 4.2.1.3)."""

_ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate that may be published.

    Attributes:
        certificate_chain_pem: the leaf and the certificates that are sent after it, including a
            detour to another CA.
        private_key_pem: PKCS#8, unencrypted; None if the certificate is for a CSR.
        not_after: when it ends; ``renew_at`` says when to issue the next one.
        issuer_fingerprint: SHA-256 of the CA's certificate.
    """

    certificate_chain_pem: bytes
    private_key_pem: bytes | None = field(repr=False)
    serial: int
    san: San
    not_before: datetime
    not_after: datetime
    issuer_fingerprint: str


def lint(signed: Signed, prepared: Prepared) -> Leaf:
    """Return a signed certificate as a leaf that may be published.

    Raises:
        IssuanceError: the certificate is not what was requested; every difference is named.
    """
    read = _read_back(signed, prepared)
    size = prepared.authority.sent_octets + ENTRY_OVERHEAD + len(read.der)
    problems = [
        *_key_problems(read, signed, prepared),
        *_content_problems(read, prepared),
        *_validity_problems(read, prepared),
        *_extension_problems(read, prepared),
    ]
    if size > prepared.profile.max_chain_bytes:
        problems.append(
            f"{size} bytes in the handshake, more than {prepared.profile.max_chain_bytes}"
        )
    if problems:
        raise _defect(prepared, problems)
    return Leaf(
        certificate_chain_pem=signed.certificate_chain_pem,
        private_key_pem=signed.private_key_pem,
        serial=read.certificate.serial_number,
        san=prepared.request.san,
        not_before=read.certificate.not_valid_before_utc,
        not_after=read.certificate.not_valid_after_utc,
        issuer_fingerprint=prepared.authority.fingerprint,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """The leaf, parsed once for all checks."""

    certificate: x509.Certificate
    der: bytes
    spki: bytes
    key_identifier: x509.SubjectKeyIdentifier
    extensions: Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]


def _read_back(signed: Signed, prepared: Prepared) -> _Read:
    """Parse the leaf; the bytes after it only have to be the authority's own."""
    leaf_pem = signed.certificate_chain_pem.removesuffix(prepared.authority.sent_pem)
    if leaf_pem == signed.certificate_chain_pem:
        raise _defect(prepared, ["the leaf is not followed by what is sent after it"])
    try:
        (certificate,) = x509.load_pem_x509_certificates(leaf_pem)
        key = certificate.public_key()
        return _Read(
            certificate,
            der=certificate.public_bytes(Encoding.DER),
            spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key_identifier=x509.SubjectKeyIdentifier.from_public_key(key),
            extensions={extension.oid: extension for extension in certificate.extensions},
        )
    except UNREADABLE:
        raise _defect(prepared, ["the leaf cannot be read"]) from None


def _key_problems(read: _Read, signed: Signed, prepared: Prepared) -> Iterator[str]:
    """The key of the certificate must be the private key beside it, or the key of the CSR."""
    if isinstance(prepared.key, PublicKey):
        expected = prepared.key
        if signed.private_key_pem is not None:
            yield "a private key beside the certificate for a CSR"
    else:
        try:
            expected = load_key_pair(signed.private_key_pem or b"").public
        except InvalidArgument as error:
            yield f"private key: {error.rule}"
            return
    if read.spki != expected.spki:
        yield "the key does not belong to the certificate"


def _content_problems(read: _Read, prepared: Prepared) -> Iterator[str]:
    """Serial and subject must be the request's, issuer and signature the authority's."""
    if read.certificate.serial_number != prepared.serial:
        yield f"serial {read.certificate.serial_number:#x}"
    if read.certificate.subject != prepared.request.subject.name():
        yield f"subject {read.certificate.subject.rfc4514_string()}"
    if not is_issued_by(read.certificate, prepared.authority.certificate):
        yield "not issued by the CA"


def _validity_problems(read: _Read, prepared: Prepared) -> Iterator[str]:
    """The validity must be the one decided, within the authority's and the profile's."""
    start, end = read.certificate.not_valid_before_utc, read.certificate.not_valid_after_utc
    if (start, end) != (prepared.not_before, prepared.not_after):
        yield f"valid from {start} to {end}, not from {prepared.not_before} to {prepared.not_after}"
    if start < prepared.authority.not_before or end > prepared.authority.not_after:
        yield "valid when the CA is not"
    if end - start > prepared.profile.lifetime + MAX_BACKDATE + _ROUNDING:
        yield f"valid for {end - start}, longer than the profile allows"


def _extension_problems(read: _Read, prepared: Prepared) -> Iterator[str]:
    """The extensions must be exactly a leaf's, to the byte, and so the names must be in order."""
    request = prepared.request
    usages = extended_key_usage(request.usages)
    wanted = {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: (False, request.san.extension().public_bytes()),
        ExtensionOID.KEY_USAGE: (True, _DIGITAL_SIGNATURE_ONLY),
        ExtensionOID.EXTENDED_KEY_USAGE: (False, usages.public_bytes()),
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: (False, read.key_identifier.public_bytes()),
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: (False, prepared.authority.key_identifier_der),
    }
    for oid, extension in read.extensions.items():
        if wanted.pop(oid, None) != (extension.critical, extension.value.public_bytes()):
            yield f"unwanted extension {shown(extension.value)}"
    for oid in wanted:
        yield f"no extension {oid.dotted_string}"


def _defect(prepared: Prepared, problems: Sequence[str]) -> IssuanceError:
    return IssuanceError(f"certificate {prepared.serial:#x} failed the lint: {'; '.join(problems)}")
