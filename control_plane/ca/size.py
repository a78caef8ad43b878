"""How many bytes a certificate will take in a handshake, computed before it is signed.

The rule of this module: the result is never too small, and at most ``SLACK`` too large. It is
arithmetic on the lengths of DER values (X.690, section 8.1.3), so a route mapping can be refused
without making a key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.ca.authority import ENTRY_OVERHEAD, Authority
from control_plane.ca.profile import Profile
from control_plane.ca.request import Request
from control_plane.ca.san import San
from control_plane.ca.subject import Subject
from control_plane.errors import FailedPrecondition
from control_plane.names import shown

SLACK = 32
"""By how many octets the bound may exceed the signed certificate's size: the serial may be short,
dates after 2049 take 2 octets more, and the integers of an ECDSA signature lose their leading
zeros."""

_VERSION = 5
_SERIAL = 22
_VALIDITY = 36
_P256_SPKI = 91
_OID = 5
_EXTENSIONS_WITHOUT_SAN = 16 + 31  # key usage, subject key identifier
_ECDSA_ALGORITHM = 12
_RSA_ALGORITHM = 15


def handshake_bytes(authority: Authority, request: Request) -> int:
    """Return an upper bound of the TLS certificate list, in bytes, for a leaf with a P-256 key."""
    return authority.sent_octets + ENTRY_OVERHEAD + _leaf(authority, request)


def size_problem(authority: Authority, profile: Profile, request: Request) -> str:
    """Return why TLS clients would refuse a certificate because of its size, or "".

    The caller puts this after words that say which certificate it is.
    """
    size = handshake_bytes(authority, request)
    if size <= profile.max_chain_bytes:
        return ""
    return (
        f"would take {size} bytes of the TLS handshake, more than the {profile.max_chain_bytes} "
        "that every client takes: map fewer or shorter routes to the app"
    )


def check_size(authority: Authority, profile: Profile, request: Request) -> None:
    """Refuse a request if TLS clients would refuse the certificate because of its size.

    Raises:
        FailedPrecondition: the handshake's certificate list would exceed the profile's bound.
    """
    problem = size_problem(authority, profile, request)
    if problem:
        raise FailedPrecondition(
            f"the certificate of {shown(request.subject.common_name)} {problem}; routes that "
            "were unmapped just now count until no resolver answers them, and it is issued once "
            "it fits",
            field="hostname",
        )


def _leaf(authority: Authority, request: Request) -> int:
    algorithm, signature = _signature(authority)
    usages = _tlv(_OID + _tlv(_tlv(10 * len(request.usages))))
    key_identifier = _tlv(_OID + _tlv(len(authority.key_identifier_der)))
    names = _tlv(_OID + _tlv(_tlv(_names(request.san))))
    extensions = _EXTENSIONS_WITHOUT_SAN + usages + key_identifier + names
    to_be_signed = (
        _VERSION
        + _SERIAL
        + algorithm
        + authority.name_octets
        + _VALIDITY
        + _subject(request.subject)
        + _P256_SPKI
        + _tlv(_tlv(extensions))
    )
    return _tlv(_tlv(to_be_signed) + algorithm + _tlv(1 + signature))


def _tlv(content: int) -> int:
    """Return the length of a value together with its tag and length octets."""
    if content < 128:
        return content + 2
    return content + 2 + (content.bit_length() + 7) // 8


def _names(san: San) -> int:
    addresses = sum(6 if "." in ip else 18 for ip in san.ips)
    return addresses + sum(_tlv(len(name)) for names in (san.dns, san.uris) for name in names)


def _subject(subject: Subject) -> int:
    common_name = _tlv(_attribute(subject.common_name))
    units = _tlv(sum(_attribute(unit) for unit in subject.units)) if subject.units else 0
    return _tlv(units + common_name)


def _attribute(value: str) -> int:
    return _tlv(_OID + _tlv(len(value.encode())))


def _signature(authority: Authority) -> tuple[int, int]:
    """Return the lengths of the algorithm identifier and of the longest signature."""
    key = authority.key.private
    octets = (key.key_size + 7) // 8
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ECDSA_ALGORITHM, _tlv(2 * _tlv(octets + 1))
    return _RSA_ALGORITHM, octets
