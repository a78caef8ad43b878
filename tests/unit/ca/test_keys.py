"""Keys: which are accepted, and that none of them shows itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from control_plane.ca import KeyPair, load_key_pair, new_key_pair
from control_plane.ca.keys import PublicKey, accept_public_key
from control_plane.errors import InvalidArgument
from tests.needs import need_command

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

RFC_8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def pem(key: Private) -> bytes:
    """Return any private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_new_keys_are_p256() -> None:
    """Keys that we make are P-256, and each is another."""
    one, other = new_key_pair(), new_key_pair()

    assert isinstance(one.private, ec.EllipticCurvePrivateKey)
    assert one.private.curve.name == "secp256r1"
    assert one.public != other.public


def test_pem_round_trip() -> None:
    """A key pair is written as PKCS#8 and read back."""
    key = new_key_pair()

    assert key.private_pem().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert load_key_pair(key.private_pem()).public == key.public


def test_repr_shows_nothing() -> None:
    """Neither the private key nor anything to find it by is in the repr."""
    key = new_key_pair()

    assert repr(key) == "KeyPair()"
    assert repr(key.public) == "PublicKey()"


def test_equality_is_by_bytes() -> None:
    """Two public keys are equal if their bytes are, whoever loaded them."""
    key = new_key_pair()

    assert key.public == PublicKey(load_key_pair(key.private_pem()).private.public_key())
    assert hash(key.public) == hash(key.public)


def test_p384_signs_with_sha384(p384_key: KeyPair, rsa_key: KeyPair) -> None:
    """P-384 is paired with SHA-384 (RFC 8446, section 4.2.3), every other key with SHA-256."""
    assert p384_key.hash.name == "sha384"
    assert rsa_key.hash.name == "sha256"
    assert new_key_pair().hash.name == "sha256"


def test_accepted_kinds(rsa_key: KeyPair, p384_key: KeyPair) -> None:
    """P-256, P-384 and RSA are accepted."""
    for key in (new_key_pair(), rsa_key, p384_key):
        assert accept_public_key(key.private.public_key()) == key.public


def rsa_public(bits: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    """Return a public key of that size, without the cost of finding primes."""
    return rsa.RSAPublicNumbers(exponent, 2**bits - 159).public_key()


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "not secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "not secp256k1"),
        (rsa_public(2047), "RSA key must have 2048 to 8192 bits, not 2047"),
        (rsa_public(8193), "RSA key must have 2048 to 8192 bits, not 8193"),
        (rsa_public(2048, 3), "RSA key must have the public exponent 65537"),
        (
            ed25519.Ed25519PrivateKey.from_private_bytes(RFC_8032_SEED).public_key(),
            "key must be P-256, P-384 or RSA",
        ),
        ("no key at all", "key must be P-256, P-384 or RSA"),
    ],
    ids=["p521", "p256k1", "rsa-2047", "rsa-8193", "rsa-e3", "ed25519", "text"],
)
def test_refused_keys(key: object, rule: str) -> None:
    """Keys that are weak, or that some TLS client does not know, are refused with the rule."""
    with pytest.raises(InvalidArgument, match=re.escape(rule)) as caught:
        accept_public_key(key)

    assert caught.value.field == "csr"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "not a private key in PEM"),
        (b"\x00\xff", "not a private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (pem(ed25519.Ed25519PrivateKey.from_private_bytes(RFC_8032_SEED)), "key must be P-256"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "elliptic curve must be P-256 or P-384"),
    ],
    ids=["empty", "binary", "garbage", "ed25519", "p521"],
)
def test_refused_key_files(data: bytes, rule: str) -> None:
    """A file that holds no key of a kind that we use is refused with the rule."""
    with pytest.raises(InvalidArgument, match=re.escape(rule)) as caught:
        load_key_pair(data, field="ca_key")

    assert caught.value.field == "ca_key"


def test_encrypted_key() -> None:
    """An encrypted key is told apart from garbage, with what to do about it."""
    encrypted = new_key_pair().private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    with pytest.raises(InvalidArgument, match="private key is encrypted: decrypt it first"):
        load_key_pair(encrypted)


@pytest.mark.parametrize(
    "command",
    [
        ["ecparam", "-name", "prime256v1", "-genkey"],
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ["genrsa", "-traditional", "2048"],
    ],
    ids=["sec1-with-parameters", "pkcs8-p384", "pkcs1-rsa"],
)
def test_what_openssl_writes(command: list[str], tmp_path: Path) -> None:
    """Key files are read in each format that openssl writes."""
    path = tmp_path / "key.pem"
    tool, *options = command
    openssl = need_command("openssl", "openssl")
    subprocess.run([openssl, tool, "-out", path, *options], check=True, capture_output=True)

    assert load_key_pair(path.read_bytes()).public.spki
