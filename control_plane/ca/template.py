"""The first step of issuing: everything about a certificate is decided, and nothing is signed.

The rule of this module: whatever can be refused is refused here, before a key is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509

from control_plane.ca.authority import Authority
from control_plane.ca.keys import KeyFactory, PublicKey
from control_plane.ca.profile import Profile, check_serial
from control_plane.ca.request import Request, Usage
from control_plane.ca.size import check_size


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A certificate that lacks only the signature.

    Attributes:
        key: what will make the leaf's key, or the public key of a CSR.
    """

    authority: Authority
    profile: Profile
    request: Request
    key: KeyFactory | PublicKey
    serial: int
    not_before: datetime
    not_after: datetime


def prepare(
    authority: Authority,
    profile: Profile,
    request: Request,
    *,
    key: KeyFactory | PublicKey,
    now: datetime,
    serial: int,
) -> Prepared:
    """Decide what will be signed.

    Args:
        key: what makes the leaf's key, usually ``new_key_pair``; or the public key of a CSR.
        now: an aware datetime; it decides the validity.
        serial: a positive number that this CA has not used, such as ``uuid.uuid4().int``.

    Raises:
        FailedPrecondition: the certificate would be larger than TLS clients accept.
        IssuanceError: the CA is not valid now, or the serial number is not valid.
    """
    check_serial(serial)
    check_size(authority, profile, request)
    not_before, not_after = profile.window(now, authority.not_before, authority.not_after)
    return Prepared(authority, profile, request, key, serial, not_before, not_after)


@lru_cache(maxsize=8)  # there are fewer kinds of certificates than this
def extended_key_usage(usages: tuple[Usage, ...]) -> x509.ExtendedKeyUsage:
    """Return the extension that says what a key may prove."""
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage) for usage in usages])
