"""An authority, and orders for certificates, as values that can be sent to another process.

The rule of this module: what arrives is what was sent, to the byte. A parcel with a CA's key is
never shown, and goes only over a pipe between two processes of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca.authority import Authority
from control_plane.ca.issuer import issue
from control_plane.ca.keys import KeyFactory, load_key_pair
from control_plane.ca.linter import Leaf
from control_plane.ca.profile import Profile
from control_plane.ca.request import Request


@dataclass(frozen=True, slots=True)
class AuthorityParcel:
    """An authority, in DER except for its key."""

    certificate: bytes
    key_pem: bytes = field(repr=False)
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    detour: tuple[bytes, ...]
    other_roots: tuple[bytes, ...]

    @classmethod
    def of(cls, authority: Authority) -> AuthorityParcel:
        """Wrap an authority."""
        return cls(
            authority.certificate.public_bytes(Encoding.DER),
            authority.key.private_pem(),
            _der(authority.chain),
            _der(authority.roots),
            _der(authority.detour),
            _der(authority.other_roots),
        )

    def open(self) -> Authority:
        """Unwrap the authority."""
        return Authority(
            x509.load_der_x509_certificate(self.certificate),
            load_key_pair(self.key_pem),
            chain=_read(self.chain),
            roots=_read(self.roots),
            detour=_read(self.detour),
            other_roots=_read(self.other_roots),
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to issue for a new key; ``issue`` explains each value."""

    request: Request
    now: datetime
    serial: int

    def fill(self, authority: Authority, profile: Profile, new_key: KeyFactory) -> Leaf:
        """Issue the certificate.

        Raises:
            FailedPrecondition: the certificate would be larger than TLS clients accept.
            IssuanceError: the CA is not valid now, or the linter found a defect.
        """
        return issue(
            authority, profile, self.request, key=new_key, now=self.now, serial=self.serial
        )


def _der(certificates: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


def _read(ders: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_der_x509_certificate(der) for der in ders)
