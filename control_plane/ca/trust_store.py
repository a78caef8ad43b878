"""Trust stores: CA certificates in the one form that Java reads, PKCS#12 (RFC 7292).

The rule of this module: no certificate is invented, and none that can be read is left out. A store
of other people's roots may hold one that is broken by today's rules; it costs that one only.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12Certificate,
    serialize_java_truststore,
)
from cryptography.utils import CryptographyDeprecationWarning

from control_plane.ca.certificate import UNREADABLE, fingerprint
from control_plane.errors import InvalidArgument

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def java_trust_store(pem: bytes, password: str) -> bytes:
    """Return a PKCS#12 file in which Java (``javax.net.ssl.trustStore``) finds these certificates.

    Args:
        pem: certificates, one after the other; text between them is passed over.
        password: what ``javax.net.ssl.trustStorePassword`` will be. It hides nothing, but Java
            takes a store that needs none for an empty one in some programs, and fails in others.

    Raises:
        InvalidArgument: there is no certificate that can be read.
    """
    by_name = {fingerprint(each.public_bytes(Encoding.DER)): each for each in _readable(pem)}
    if not by_name:
        raise InvalidArgument("no X.509 certificate in PEM to trust", field="certificate")
    entries = [PKCS12Certificate(each, name.encode()) for name, each in by_name.items()]
    return serialize_java_truststore(entries, BestAvailableEncryption(password.encode()))


def _readable(pem: bytes) -> Iterator[x509.Certificate]:
    for block in _BLOCK.findall(pem):
        with warnings.catch_warnings():
            # Some public roots have a serial of zero, which Java itself does not mind.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            try:
                certificate = x509.load_pem_x509_certificate(block)
            except UNREADABLE:
                continue
        yield certificate
