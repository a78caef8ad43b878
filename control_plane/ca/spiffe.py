"""SPIFFE ids: an identity as a URI in a certificate (SPIFFE-ID, section 2).

The rule of this module: an id is read strictly or not at all. It has no escapes, no empty or dot
segments, no query, and no trust domain but ours; an id that looks nearly right belongs to somebody
else.
"""

from __future__ import annotations

import re
from typing import NewType

from control_plane.errors import InvalidArgument
from control_plane.names import shown

TrustDomain = NewType("TrustDomain", str)

DEFAULT_TRUST_DOMAIN = TrustDomain("c2c.internal")

MAX_TRUST_DOMAIN_OCTETS = 255
"""SPIFFE-ID, section 2.1."""

MAX_ID_OCTETS = 2048
"""SPIFFE-ID, section 2.3."""

_SCHEME = "spiffe://"
# SPIFFE allows dots anywhere, but Go accepts no certificate whose URI has an empty label in its
# host.
_TRUST_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


def parse_trust_domain(text: str, *, field: str = "trust_domain") -> TrustDomain:
    """Return the name of a trust domain.

    Raises:
        InvalidArgument: the name breaks SPIFFE-ID, section 2.1, or has an empty label.
    """
    if len(text) > MAX_TRUST_DOMAIN_OCTETS or not _TRUST_DOMAIN.fullmatch(text):
        raise InvalidArgument(
            f"trust domain must be 1 to {MAX_TRUST_DOMAIN_OCTETS} lower-case letters, digits, '-', "
            f"'_' and single dots: {shown(text)}",
            field=field,
        )
    return TrustDomain(text)


def spiffe_id(trust_domain: TrustDomain, *segments: str) -> str:
    """Return the SPIFFE id of an identity in a trust domain.

    Raises:
        InvalidArgument: a segment breaks SPIFFE-ID, section 2.2, or the id is too long.
    """
    for segment in segments:
        _check_segment(segment)
    uri = f"{_SCHEME}{trust_domain}/{'/'.join(segments)}"
    if len(uri) > MAX_ID_OCTETS:
        raise InvalidArgument(f"SPIFFE id longer than {MAX_ID_OCTETS} octets: {shown(uri)}")
    return uri


def read_spiffe_id(uri: str, trust_domain: TrustDomain) -> tuple[str, ...]:
    """Return the path segments of a SPIFFE id in our trust domain.

    Raises:
        InvalidArgument: the URI is not a SPIFFE id, or is one of another trust domain.
    """
    if not uri.startswith(_SCHEME) or len(uri) > MAX_ID_OCTETS:
        raise InvalidArgument(f"not a SPIFFE id: {shown(uri)}")
    domain, _, path = uri.removeprefix(_SCHEME).partition("/")
    if domain != trust_domain:
        raise InvalidArgument(
            f"SPIFFE id of another trust domain than {trust_domain}: {shown(uri)}"
        )
    segments = tuple(path.split("/"))
    for segment in segments:
        _check_segment(segment)
    return segments


def is_segment(text: str) -> bool:
    """Tell whether a text may be a segment of a path (SPIFFE-ID, section 2.2)."""
    return text not in (".", "..") and _SEGMENT.fullmatch(text) is not None


def _check_segment(segment: str) -> None:
    if not is_segment(segment):
        raise InvalidArgument(
            f"segment of a SPIFFE id must be letters, digits, '.', '-' and '_': {shown(segment)}"
        )
