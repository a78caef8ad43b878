"""Reading certificates: plain values from any bytes, or one sentence."""

from __future__ import annotations

import functools
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import (
    Authority,
    C2CRequest,
    KeyPair,
    Profile,
    San,
    fingerprint,
    issue,
    new_key_pair,
    read_certificate,
    read_certificates,
)
from control_plane.ca.certificate import is_issued_by, is_signed_by
from control_plane.errors import InvalidArgument
from tests.needs import need_command
from tests.unit.ca.forge import CA, NOW, ca_pem, made

pytestmark = pytest.mark.filterwarnings(
    "ignore:Parsed a serial number which wasn't positive"  # the library's, for mutated ones
)


def test_read(authority: Authority, profile: Profile, request_c2c: C2CRequest) -> None:
    """A certificate is read into plain values, the same from PEM and from DER."""
    key = new_key_pair()
    leaf = issue(authority, profile, request_c2c, key=lambda: key, now=NOW, serial=0xABC)
    read = read_certificate(leaf.certificate_chain_pem)
    der = x509.load_pem_x509_certificate(leaf.certificate_chain_pem).public_bytes(Encoding.DER)

    assert read == read_certificate(der)
    assert read.serial == leaf.serial
    assert read.san == leaf.san
    assert (read.not_before, read.not_after) == (leaf.not_before, leaf.not_after)
    assert read.public_key == key.public
    assert read.fingerprint == fingerprint(der)


def test_read_chain(authority: Authority, profile: Profile, request_c2c: C2CRequest) -> None:
    """A chain is read in its order; a CA's certificate has no names."""
    leaf = issue(authority, profile, request_c2c, key=new_key_pair, now=NOW, serial=1)

    first, second = read_certificates(leaf.certificate_chain_pem)

    assert first.san == leaf.san
    assert second.fingerprint == authority.fingerprint == leaf.issuer_fingerprint
    assert second.san == San()


def test_fingerprint_is_that_of_openssl(authority: Authority, tmp_path: Path) -> None:
    """The fingerprint has the digits that the openssl command shows."""
    path = tmp_path / "ca.pem"
    path.write_bytes(ca_pem(authority))
    command = [need_command("openssl", "openssl"), "x509", "-in", str(path), "-noout"]
    command += ["-fingerprint", "-sha256"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    digits = shown.split("=")[1].strip().replace(":", "").lower()
    assert authority.fingerprint == f"sha256:{digits}"


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n", new_key_pair().private_pem()],
    ids=["empty", "garbage", "begin-only", "private-key"],
)
def test_not_certificates(data: bytes) -> None:
    """What is no certificate is refused, and not quoted."""
    with pytest.raises(InvalidArgument, match=r"^not an X\.509 certificate in PEM or DER$"):
        read_certificate(data)
    with pytest.raises(InvalidArgument, match=r"^not X\.509 certificates in PEM$") as caught:
        read_certificates(data)

    assert caught.value.field == "certificate"


def test_unknown_key() -> None:
    """A certificate for a kind of key that nobody here has is refused."""
    p521 = made("x", key=KeyPair(ec.generate_private_key(ec.SECP521R1())))

    with pytest.raises(InvalidArgument, match="elliptic curve must be P-256 or P-384") as caught:
        read_certificate(p521.pem)

    assert caught.value.field == "certificate"


def test_issued_by() -> None:
    """Name and signature must both be the issuer's."""
    root = made("root")
    leaf = made("leaf", by=root)

    assert is_issued_by(leaf.certificate, root.certificate)
    assert not is_issued_by(leaf.certificate, made("root").certificate)
    assert not is_issued_by(leaf.certificate, made("other", key=root.key).certificate)


def test_signed_by() -> None:
    """It takes one of the CAs, and their root does not do instead."""
    root = made("root")
    ca, other = made("ca", by=root), made("other", by=root)
    leaf = made("leaf", by=ca).pem + ca.pem

    assert is_signed_by(leaf, (other.certificate, ca.certificate))
    assert not is_signed_by(leaf, (other.certificate, root.certificate))
    assert not is_signed_by(leaf, ())


@functools.cache
def sample() -> bytes:
    """Return a certificate with names, in DER."""
    names = San(("a.b",), ("10.0.0.1",), ("spiffe://c2c.internal/a",)).extension()
    end = NOW + timedelta(days=1)
    maker = made("x", extensions=[*CA, (names, False)], end=end)
    return maker.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("good", "odd"),
    [
        ("a003020102", "a003020104"),
        ("0603551d13", "0603551d11"),
        (f"8203{b'a.b'.hex()}", "a503810161"),
    ],
    ids=["version 5", "an extension twice", "a name of an EDI party"],
)
def test_what_no_certificate_of_the_web_has(good: str, odd: str) -> None:
    """Each has an exception of its own in ``cryptography``, and is refused as any other."""
    data = sample()
    assert data.count(bytes.fromhex(good)) == 1

    with pytest.raises(InvalidArgument):
        read_certificate(data.replace(bytes.fromhex(good), bytes.fromhex(odd)))


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_certificates(changes: list[tuple[int, int]]) -> None:
    """A certificate with some bytes changed is read or refused, and nothing else happens."""
    data = bytearray(sample())
    for position, value in changes:
        data[position % len(data)] = value

    try:
        read = read_certificate(bytes(data))
    except InvalidArgument:
        return

    assert read.fingerprint == fingerprint(bytes(data))


@given(st.binary(max_size=1000))
def test_any_bytes(data: bytes) -> None:
    """Random bytes are refused with our error and no other."""
    with pytest.raises(InvalidArgument):
        read_certificate(data)
