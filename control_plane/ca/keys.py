"""Keys: pairs that the control plane makes, and public keys that clients bring.

The rule of this module: a private key never shows itself (it is in no ``repr`` and no error
message), and a key is used for nothing unless its kind and size were accepted here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from control_plane.errors import InvalidArgument

AnyPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
AnyPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MIN_RSA_BITS = 2048
"""NIST SP 800-57 part 1, table 2: 112 bits of security, the least that TLS libraries accept."""

MAX_RSA_BITS = 8192
"""Go refuses larger keys in handshakes (CVE-2023-29409): they only burn the verifier's CPU."""

RSA_EXPONENT = 65537
"""FIPS 186-5, section 5.1, forbids smaller exponents; nobody makes larger ones."""

_CURVES = ("secp256r1", "secp384r1")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of a kind that our certificates may have; two are equal if their bytes are.

    Attributes:
        spki: SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
    """

    key: AnyPublicKey = field(repr=False, compare=False)
    spki: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Serialise the key once, for comparing."""
        spki = self.key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        object.__setattr__(self, "spki", spki)


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """A private key and its public half."""

    private: AnyPrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self.private.public_key())

    @property
    def hash(self) -> hashes.SHA256 | hashes.SHA384:
        """The hash to sign with: SHA-384 for P-384 (RFC 8446, section 4.2.3), else SHA-256."""
        match self.private:
            case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
                return hashes.SHA384()
            case _:
                return hashes.SHA256()

    def private_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS#8 PEM; the caller has to keep it secret."""
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


KeyFactory = Callable[[], KeyPair]
"""Makes new keys; the only randomness in this package, and always an argument."""


def new_key_pair() -> KeyPair:
    """Make a P-256 key (10 us; RSA-3072, which Cloud Foundry uses, takes 240 ms)."""
    return KeyPair(ec.generate_private_key(ec.SECP256R1()))


def accept_public_key(key: object, *, field: str = "csr") -> PublicKey:
    """Return a public key, if it is strong enough and of a kind that every TLS client knows.

    Raises:
        InvalidArgument: the key is not P-256, P-384 or RSA of 2048 to 8192 bits with the usual
            exponent.
    """
    match key:
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise InvalidArgument(
                    f"elliptic curve must be P-256 or P-384, not {key.curve.name}", field=field
                )
        case rsa.RSAPublicKey():
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise InvalidArgument(
                    f"RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {key.key_size}",
                    field=field,
                )
            if key.public_numbers().e != RSA_EXPONENT:
                raise InvalidArgument(
                    f"RSA key must have the public exponent {RSA_EXPONENT}", field=field
                )
        case _:
            raise InvalidArgument("key must be P-256, P-384 or RSA", field=field)
    return PublicKey(key)


def load_key_pair(pem: bytes, *, field: str = "key") -> KeyPair:
    """Read a private key from unencrypted PEM (PKCS#8, PKCS#1 or SEC 1).

    Raises:
        InvalidArgument: the text is not PEM, or the key is encrypted or of a kind or size that
            ``accept_public_key`` refuses.
    """
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise InvalidArgument(
            "private key is encrypted: decrypt it first (openssl pkey -in KEY -out PLAIN)",
            field=field,
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidArgument("not a private key in PEM", field=field) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidArgument("key must be P-256, P-384 or RSA", field=field)
    accept_public_key(private.public_key(), field=field)
    return KeyPair(private)
