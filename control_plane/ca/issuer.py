"""Issuing: prepare, sign, lint, in this order and never without the last.

The rule of this module: the same arguments give the same certificate, except for the key and the
signature.
"""

from __future__ import annotations

from datetime import datetime

from control_plane.ca.authority import Authority
from control_plane.ca.keys import KeyFactory, PublicKey
from control_plane.ca.linter import Leaf, lint
from control_plane.ca.profile import Profile
from control_plane.ca.request import Request
from control_plane.ca.signer import sign
from control_plane.ca.template import prepare


def issue(
    authority: Authority,
    profile: Profile,
    request: Request,
    *,
    key: KeyFactory | PublicKey,
    now: datetime,
    serial: int,
) -> Leaf:
    """Issue a certificate that may be published (0.3 ms with a P-256 CA).

    Args:
        key: what makes the leaf's key, usually ``new_key_pair``; or the public key of a CSR.
        now: an aware datetime; it decides the validity.
        serial: a positive number that this CA has not used, such as ``uuid.uuid4().int``.

    Raises:
        FailedPrecondition: the certificate would be larger than TLS clients accept.
        IssuanceError: the CA is not valid now, the serial number is not valid, or the linter found
            a defect.
    """
    prepared = prepare(authority, profile, request, key=key, now=now, serial=serial)
    return lint(sign(prepared), prepared)
