"""Certificate signing requests: only the key counts, and any bytes may come."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import KeyPair, make_csr, new_key_pair, parse_csr
from control_plane.errors import InvalidArgument
from tests.needs import need_command
from tests.unit.ca.forge import name

WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused


def der(csr: bytes) -> bytes:
    """Return a request in DER."""
    return x509.load_pem_x509_csr(csr).public_bytes(Encoding.DER)


@functools.cache
def sample() -> bytes:
    """Return a good request in DER."""
    return der(make_csr(new_key_pair()))


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_round_trip(kind: str, rsa_key: KeyPair, p384_key: KeyPair) -> None:
    """What we make is parsed, in PEM and in DER, and gives the public key."""
    key = {"p256": new_key_pair(), "p384": p384_key, "rsa": rsa_key}[kind]
    csr = make_csr(key)

    assert csr.startswith(b"-----BEGIN CERTIFICATE REQUEST-----\n")
    assert parse_csr(csr) == key.public
    assert parse_csr(der(csr)) == key.public


def test_what_openssl_makes(tmp_path: Path) -> None:
    """The request of the openssl command is accepted; the names that it asks for are not read."""
    key, csr = tmp_path / "key.pem", tmp_path / "csr.pem"
    command = [need_command("openssl", "openssl"), "req", "-new"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", str(key), "-out", str(csr), "-subj", "/CN=root"]
    command += ["-addext", "subjectAltName=DNS:evil.apps.internal", "-text"]
    subprocess.run(command, check=True, capture_output=True)

    assert parse_csr(csr.read_bytes()).spki


def test_forged_signature() -> None:
    """A request for somebody else's key, signed with one's own, proves nothing."""
    own, victim = new_key_pair(), new_key_pair()
    forged = der(make_csr(own)).replace(own.public.spki, victim.public.spki)

    with pytest.raises(InvalidArgument, match="is not signed by its own key") as caught:
        parse_csr(forged)

    assert caught.value.field == "csr"


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (WEAK, "RSA key must have 2048 to 8192 bits, not 1024"),
        (ec.generate_private_key(ec.SECP521R1()), "elliptic curve must be P-256 or P-384"),
        (ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), "key must be P-256, P-384"),
    ],
    ids=["rsa-1024", "p521", "ed25519"],
)
def test_weak_keys(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, rule: str
) -> None:
    """A request for a key that we do not accept is refused with the rule."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(name("x")).sign(key, algorithm)

    with pytest.raises(InvalidArgument, match=rule) as caught:
        parse_csr(csr.public_bytes(Encoding.PEM))

    assert caught.value.field == "csr"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        new_key_pair().private_pem(),
    ],
    ids=["empty", "zero", "begin-only", "garbage", "private-key"],
)
def test_garbage(data: bytes) -> None:
    """What is no request is refused, and not quoted: it may hold a key sent by mistake."""
    with pytest.raises(InvalidArgument, match=r"^not a certificate signing request \(PKCS#10\)"):
        parse_csr(data)


def test_size() -> None:
    """More than 16 KiB are refused unread."""
    with pytest.raises(InvalidArgument, match="request larger than 16384 bytes: 16385"):
        parse_csr(bytes(16 * 1024 + 1))
    with pytest.raises(InvalidArgument, match="not a certificate signing request"):
        parse_csr(bytes(16 * 1024))


@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    """Random bytes are refused with our error and no other."""
    with pytest.raises(InvalidArgument):
        parse_csr(data)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_requests(changes: list[tuple[int, int]]) -> None:
    """A good request with some bytes changed is parsed or refused, and nothing else happens."""
    data = bytearray(sample())
    for position, value in changes:
        data[position % len(data)] = value

    with contextlib.suppress(InvalidArgument):
        parse_csr(bytes(data))


@given(st.binary(max_size=600))
def test_garbage_in_pem(data: bytes) -> None:
    """Random bytes inside PEM are refused with our error and no other."""
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%b\n-----END CERTIFICATE REQUEST-----\n" % data

    with pytest.raises(InvalidArgument):
        parse_csr(pem)
