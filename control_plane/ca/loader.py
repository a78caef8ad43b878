"""An authority read from PEM: the embedded CA after a restart, or an operator's own CA.

The rule of this module: whatever would make clients refuse every leaf is found here, at start, and
all of it is reported at once. An operator's CA may be an intermediate, with an RSA or EC key; its
file then holds the whole path up to the root.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

from control_plane.ca.authority import Authority
from control_plane.ca.certificate import UNREADABLE, is_issued_by
from control_plane.ca.constraints import authority_faults, misnames_key, name_faults
from control_plane.ca.keys import MIN_RSA_BITS, KeyPair, accept_public_key, load_key_pair
from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.names import shown


def load_authority(
    cert_pem: bytes,
    key_pem: bytes,
    *,
    now: datetime | None,
    where: str = "",
    domains: Collection[str] = (),
) -> Authority:
    """Return the authority of a certificate file and a key file.

    Args:
        cert_pem: the CA's certificate. If it is not self-signed, it is followed by the certificate
            of its issuer, and so on, up to the root.
        key_pem: the private key of the first certificate, unencrypted.
        now: an aware datetime at which every certificate must be valid. None skips this check, for
            a CA that is about to leave.
        where: how an error names the files; "" if there are none, or if the caller names them.
        domains: the internal domains, which no certificate may exclude, because leaves have names
            in them.

    Raises:
        ConfigurationError: clients would not believe the authority that the files make.
    """
    problems: list[str] = []
    path = _read_path(cert_pem, now, domains, problems)
    key = _read_key(key_pem, problems)
    if path and key and not _is_key_of(key, path[0]):
        problems.append(
            "CA key does not belong to the CA certificate, which must be the first in its file"
        )
    if problems or not path or not key:
        raise ConfigurationError([f"{where}: {each}" if where else each for each in problems])
    intermediates = path[1:-1]
    return Authority(path[0], key, chain=(path[0], *intermediates), roots=(path[-1],))


def load_trusted(pem: bytes, *, where: str) -> bytes:
    """Return the CA certificates that Envoy is told to trust, unchanged.

    They only have to be readable: if Envoy cannot read one of them, it refuses them all, and the
    listeners that wait for them never open.

    Args:
        pem: certificates, one after the other; text between them is ignored.
        where: how an error names the file.

    Raises:
        ConfigurationError: there is no certificate, or one that cannot be read.
    """
    try:
        x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        raise ConfigurationError([f"{where}: not X.509 certificates in PEM"]) from None
    return pem


def _read_path(
    pem: bytes, now: datetime | None, domains: Collection[str], problems: list[str]
) -> list[x509.Certificate]:
    try:
        path = x509.load_pem_x509_certificates(pem)
        for below, certificate in enumerate(path):
            name = _named(certificate.subject)
            faults = [
                *authority_faults(certificate, below),
                *name_faults(certificate, domains),
                *_strength_faults(certificate),
                *_validity_faults(certificate, now),
            ]
            problems.extend(f"CA certificate {name} {fault}" for fault in faults)
        problems.extend(_order_problems(path))
    except UNREADABLE:
        problems.append("CA certificate: not X.509 certificates in PEM")
        return []
    return path


def _read_key(pem: bytes, problems: list[str]) -> KeyPair | None:
    try:
        return load_key_pair(pem)
    except InvalidArgument as error:
        problems.append(f"CA key: {error.rule}")
        return None


def _is_key_of(key: KeyPair, certificate: x509.Certificate) -> bool:
    try:
        return accept_public_key(certificate.public_key()) == key.public
    except (InvalidArgument, *UNREADABLE):
        return False


def _strength_faults(certificate: x509.Certificate) -> Iterator[str]:
    """Name what OpenSSL refuses at the security level that systems have (2), as other clients do.

    Nobody verifies the signature of a root on itself, so that may be weak.
    """
    if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        yield (
            "has an RSA key that is for PSS only, by which leaves are not signed and which not "
            "every client takes"
        )
    bits = _rsa_bits(certificate)
    if bits is not None and bits < MIN_RSA_BITS:
        yield f"has an RSA key of {bits} bits, and clients take none of less than {MIN_RSA_BITS}"
    if _is_weakly_signed(certificate) and certificate.subject != certificate.issuer:
        yield "is signed with SHA-1 or MD5, which no client takes"


def _rsa_bits(certificate: x509.Certificate) -> int | None:
    """Return the size of an RSA key; None if the key is of another kind."""
    try:
        key = certificate.public_key()
    except UNREADABLE:
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def _is_weakly_signed(certificate: x509.Certificate) -> bool:
    try:
        digest = certificate.signature_hash_algorithm
    except UNREADABLE:
        return False
    return isinstance(digest, hashes.SHA1 | hashes.MD5)


def _validity_faults(certificate: x509.Certificate, now: datetime | None) -> Iterator[str]:
    if now is None:
        return
    here = f"and the clock of this machine says {now:%Y-%m-%dT%H:%M:%SZ}"
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc
        yield f"is not valid before {start:%Y-%m-%dT%H:%M:%SZ}, {here}: set the clock"
    if now >= certificate.not_valid_after_utc:
        end = certificate.not_valid_after_utc
        yield f"expired on {end:%Y-%m-%dT%H:%M:%SZ}, {here}: set the clock if it is wrong"


def _order_problems(path: Sequence[x509.Certificate]) -> Iterator[str]:
    """Check that each certificate was issued by the next one, and the last by itself."""
    for certificate, issuer in pairwise(path):
        if not _is_by(certificate, issuer):
            yield (
                f"CA certificate {_named(certificate.subject)} was not issued by the next one in "
                f"its file, {_named(issuer.subject)}"
            )
        elif misnames_key(certificate, issuer):
            yield (
                f"CA certificate {_named(certificate.subject)} says that another certificate of "
                f"{_named(issuer.subject)} issued it than the next one in its file (authority key "
                "identifier): clients take no other"
            )
    root = path[-1]
    if not _is_by(root, root):
        yield (
            f"CA certificate {_named(root.subject)} was issued by {_named(root.issuer)}: "
            "append the certificates up to the root to its file"
        )
    elif misnames_key(root, root):
        yield (
            f"CA certificate {_named(root.subject)} says that another certificate of that name "
            "issued it (authority key identifier): not every client takes it for a root"
        )


def _is_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate was issued by another; for a weak signature, only by the name."""
    if _is_weakly_signed(certificate):
        return certificate.issuer == issuer.subject
    return is_issued_by(certificate, issuer)


def _named(name: x509.Name) -> str:
    return shown(name.rfc4514_string())
