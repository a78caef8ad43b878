"""The second step of issuing: a key is made, or taken from a CSR, and the certificate signed.

The rule of this module: its result must not be published. Only the linter makes what may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca.keys import PublicKey
from control_plane.ca.template import Prepared, extended_key_usage


@dataclass(frozen=True, slots=True, eq=False)
class Signed:
    """A certificate that was not read back yet.

    Attributes:
        certificate_chain_pem: the leaf and the certificates that are sent after it.
        private_key_pem: the key that was made for it; None if it is for the key of a CSR.
    """

    certificate_chain_pem: bytes
    private_key_pem: bytes | None = field(repr=False)


def sign(prepared: Prepared) -> Signed:
    """Sign a certificate for a new key, or for the public key of a CSR."""
    if isinstance(prepared.key, PublicKey):
        return Signed(_chain_pem(prepared, prepared.key), None)
    pair = prepared.key()
    return Signed(_chain_pem(prepared, pair.public), pair.private_pem())


def _chain_pem(prepared: Prepared, public_key: PublicKey) -> bytes:
    authority, request = prepared.authority, prepared.request
    leaf = (
        x509.CertificateBuilder()
        .serial_number(prepared.serial)
        .issuer_name(authority.name)
        .subject_name(request.subject.name())
        .not_valid_before(prepared.not_before)
        .not_valid_after(prepared.not_after)
        .public_key(public_key.key)
        .add_extension(_DIGITAL_SIGNATURE, critical=True)
        .add_extension(extended_key_usage(request.usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key.key), critical=False)
        .add_extension(authority.key_identifier, critical=False)
        .add_extension(request.san.extension(), critical=False)
        .sign(authority.key.private, authority.key.hash)
    )
    return leaf.public_bytes(Encoding.PEM) + authority.sent_pem


_DIGITAL_SIGNATURE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
