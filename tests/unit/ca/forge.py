"""Certificates that break one rule each, made past everything that would refuse them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from control_plane.ca import Authority, KeyPair, new_key_pair
from control_plane.ca.authority import public_pem
from control_plane.ca.signer import Signed
from control_plane.ca.template import Prepared

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

Extension = tuple[x509.ExtensionType, bool]
Extensions = Iterable[Extension]
Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

CA = ((x509.BasicConstraints(ca=True, path_length=None), True),)


def key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    """Return a key usage of a CA, or of something that is none."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def conforming(key: KeyPair, by: KeyPair | None = None) -> tuple[Extension, ...]:
    """Return all that RFC 5280 wants of a CA's certificate, itself issued by another's key."""
    ours = x509.SubjectKeyIdentifier.from_public_key(key.public.key)
    extensions: tuple[Extension, ...] = (*CA, (key_usage(key_cert_sign=True), True), (ours, False))
    if by is None:
        return extensions
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public.key)
    return (*extensions, (theirs, False))


def name(common_name: str) -> x509.Name:
    """Return an X.501 name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def handshake_size(chain_pem: bytes) -> int:
    """Return how many bytes a chain takes in the certificate list of a TLS 1.3 handshake."""
    chain = x509.load_pem_x509_certificates(chain_pem)
    return sum(len(each.public_bytes(Encoding.DER)) + 5 for each in chain)


def ca_pem(authority: Authority) -> bytes:
    """Return the own certificate of a CA, without what is above it."""
    return public_pem((authority.certificate,))


@dataclass(frozen=True)
class Maker:
    """Somebody with a name, a key and a certificate, who can issue others."""

    certificate: x509.Certificate
    key: KeyPair

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


def made(
    common_name: str,
    *,
    by: Maker | None = None,
    key: KeyPair | None = None,
    extensions: Extensions = CA,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=365),
) -> Maker:
    """Make a certificate with exactly these extensions, self-signed unless somebody else signs."""
    key = key or new_key_pair()
    issuer, signer = (by.certificate.subject, by.key) if by else (name(common_name), key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer)
        .public_key(key.public.key)
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Maker(builder.sign(signer.private, signer.hash), key)


def lax_ca_files(
    directory: Path, name: str, *, path_length: int | None = None, by: Maker | None = None
) -> tuple[Path, Path]:
    """Write certificate and key of a CA that is valid now, and that strict clients refuse."""
    key, now = new_key_pair(), datetime.now(UTC)
    lax = made(
        name,
        by=by,
        key=key,
        extensions=[(x509.BasicConstraints(ca=True, path_length=path_length), True)],
        start=now - timedelta(minutes=1),
        end=now + timedelta(days=30),
    )
    certificate, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(lax.pem + (by.pem if by else b""))
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_pem())
    return certificate, key_file


def resigned(
    signed: Signed,
    prepared: Prepared,
    *,
    without: type[x509.ExtensionType] | None = None,
    extra: tuple[x509.ExtensionType, bool] | None = None,
    key: Key | None = None,
) -> Signed:
    """Sign a leaf again, without an extension, with another one, or with another key."""
    leaf = x509.load_pem_x509_certificate(signed.certificate_chain_pem)
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key or leaf.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        if without is None or not isinstance(extension.value, without):
            builder = builder.add_extension(extension.value, extension.critical)
    if extra is not None:
        builder = builder.add_extension(*extra)
    issuer = prepared.authority.key
    pem = builder.sign(issuer.private, issuer.hash).public_bytes(Encoding.PEM)
    return Signed(pem + prepared.authority.sent_pem, signed.private_key_pem)
