"""Certificate signing requests (PKCS#10, RFC 2986): only the public key is taken from a request.

The rule of this module: a request proves that its sender holds a private key, and nothing else in
it counts. Who the sender is, and so which names the certificate gets, was proven in another way
(join token, mTLS).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca.certificate import PEM_MARK, UNREADABLE
from control_plane.ca.keys import KeyPair, PublicKey, accept_public_key
from control_plane.errors import InvalidArgument

MAX_CSR_BYTES = 16 * 1024
"""A request for an RSA key of 8,192 bits takes 3,000 bytes in PEM."""


def make_csr(key: KeyPair) -> bytes:
    """Return a request for a key, in PEM, with an empty subject."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key.private, key.hash).public_bytes(Encoding.PEM)


def parse_csr(data: bytes) -> PublicKey:
    """Return the public key that a request, PEM or DER, is for.

    Raises:
        InvalidArgument: the request is larger than 16 KiB, cannot be read, is for a weak key, or
            its signature does not prove that the sender holds the private key.
    """
    if len(data) > MAX_CSR_BYTES:
        raise InvalidArgument(
            f"certificate signing request larger than {MAX_CSR_BYTES} bytes: {len(data)}",
            field="csr",
        )
    try:
        request = x509.load_pem_x509_csr(data) if PEM_MARK in data else x509.load_der_x509_csr(data)
        # Check the key before the signature: verifying with an oversized key is the costly part.
        key = accept_public_key(request.public_key())
        proven = request.is_signature_valid
    except UNREADABLE:
        raise InvalidArgument(
            "not a certificate signing request (PKCS#10) in PEM or DER", field="csr"
        ) from None
    if not proven:
        raise InvalidArgument(
            "certificate signing request is not signed by its own key", field="csr"
        )
    return key
