"""Trust stores: CA certificates in the formats that Java has for them.

The rule of this module: no certificate is added, and none that can be read is left out. A store of
public roots may hold a certificate that is broken by today's rules. Only that certificate is lost,
except in PKCS#12, which is read as a whole or not at all.

The module writes PKCS#12 (RFC 7292). It also reads JKS, the format of a JDK's own store up to Java
17: a magic number, a version, a count, and for each entry a tag, its alias, a time, the kind of
certificate and its bytes (``sun.security.provider.JavaKeyStore``).
"""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Iterator
from io import BytesIO

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12Certificate,
    load_pkcs12,
    serialize_java_truststore,
)
from cryptography.utils import CryptographyDeprecationWarning

from control_plane.ca.certificate import UNREADABLE, fingerprint
from control_plane.errors import InvalidArgument

JDK_PASSWORD = "changeit"  # noqa: S105 - known to everybody, and no secret is behind it
"""The password of every JDK's own store."""

_JKS_MAGIC = b"\xfe\xed\xfe\xed"
_JKS_VERSION = 2
_JKS_TRUSTED = 2

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def java_trust_store(pem: bytes, password: str) -> bytes:
    """Return a PKCS#12 file in which Java (``javax.net.ssl.trustStore``) finds these certificates.

    Args:
        pem: certificates, one after the other; text between them is ignored.
        password: the value of ``javax.net.ssl.trustStorePassword``. It hides nothing, but without a
            password Java takes the store for an empty one in some programs, and fails in others.

    Raises:
        InvalidArgument: there is no certificate that can be read.
    """
    by_name = {fingerprint(each.public_bytes(Encoding.DER)): each for each in _readable(pem)}
    if not by_name:
        raise InvalidArgument("no X.509 certificate in PEM to trust", field="certificate")
    entries = [PKCS12Certificate(each, name.encode()) for name, each in by_name.items()]
    return serialize_java_truststore(entries, BestAvailableEncryption(password.encode()))


def read_java_trust_store(data: bytes) -> bytes:
    """Return the certificates of a JDK's own trust store (``lib/security/cacerts``), in PEM.

    Its integrity is not verified: an attacker who can change it can change the JDK.

    Raises:
        InvalidArgument: the data is neither JKS nor a PKCS#12 file that opens with a JDK's password
            or without one; or it is PKCS#12 with an unreadable certificate, which hides the others.
    """
    ders = _read_jks(data) if data.startswith(_JKS_MAGIC) else _read_pkcs12(data)
    pem = b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in ders)
    return b"".join(each.public_bytes(Encoding.PEM) for each in _readable(pem))


def _read_jks(data: bytes) -> list[bytes]:
    reader = BytesIO(data)

    def number(octets: int) -> int:
        return int.from_bytes(take(octets))

    def take(octets: int) -> bytes:
        taken = reader.read(octets)
        if len(taken) < octets:
            raise InvalidArgument("Java trust store (JKS) ends too early", field="trust_store")
        return taken

    def entry() -> bytes:
        if number(4) != _JKS_TRUSTED:
            raise InvalidArgument("Java trust store (JKS) holds a key", field="trust_store")
        take(number(2))  # alias
        take(8)  # milliseconds since 1970
        take(number(2))  # "X.509"
        return take(number(4))

    take(len(_JKS_MAGIC))
    if number(4) != _JKS_VERSION:
        raise InvalidArgument("Java trust store (JKS) is not of version 2", field="trust_store")
    return [entry() for _ in range(number(4))]


def _read_pkcs12(data: bytes) -> list[bytes]:
    for password in (JDK_PASSWORD.encode(), None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            try:
                store = load_pkcs12(data, password)
            except UNREADABLE:
                continue
        return [each.certificate.public_bytes(Encoding.DER) for each in store.additional_certs]
    raise InvalidArgument("not a Java trust store (JKS or PKCS#12)", field="trust_store")


def _readable(pem: bytes) -> Iterator[x509.Certificate]:
    for block in _BLOCK.findall(pem):
        with warnings.catch_warnings():
            # Some public roots have the serial number zero, which Java itself accepts.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            try:
                certificate = x509.load_pem_x509_certificate(block)
            except UNREADABLE:
                continue
        yield certificate
