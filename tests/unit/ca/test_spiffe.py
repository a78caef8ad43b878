"""SPIFFE ids: written as the specification says, and read strictly."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca.spiffe import (
    DEFAULT_TRUST_DOMAIN,
    parse_trust_domain,
    read_spiffe_id,
    spiffe_id,
)
from control_plane.errors import InvalidArgument

SEGMENTS = st.lists(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True), min_size=1)


@given(SEGMENTS)
def test_round_trip(segments: list[str]) -> None:
    """Whatever is written is read back segment by segment."""
    uri = spiffe_id(DEFAULT_TRUST_DOMAIN, *segments)

    assert read_spiffe_id(uri, DEFAULT_TRUST_DOMAIN) == tuple(segments)


@pytest.mark.parametrize("text", ["c2c.internal", "a", "a-b_c.d", "a" * 255], ids=lambda t: t[:12])
def test_trust_domains(text: str) -> None:
    """A trust domain has lower-case letters, digits, dots, dashes and underscores (2.1)."""
    assert parse_trust_domain(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "C2C", "a/b", "a:80", "u@a", "a" * 256, ".", "a..b", "a.", ".a"],
    ids=lambda text: text[:6],
)
def test_bad_trust_domains(text: str) -> None:
    """Anything else is no trust domain: no port, no user, no capitals, no empty label."""
    with pytest.raises(InvalidArgument, match="trust domain must be 1 to 255 lower-case letters"):
        parse_trust_domain(text)


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b", "a%2fb", "ä", "a b", "a\n"], ids=ascii)
def test_bad_segments(segment: str) -> None:
    """Nothing that could make a path mean something else gets into an id (2.2)."""
    rule = f"segment of a SPIFFE id must be letters, digits, '.', '-' and '_': {segment!r}"

    with pytest.raises(InvalidArgument, match=re.escape(rule)):
        spiffe_id(DEFAULT_TRUST_DOMAIN, "app", segment)


def test_long_id() -> None:
    """An id of more than 2,048 octets is refused (2.3)."""
    with pytest.raises(InvalidArgument, match="SPIFFE id longer than 2048 octets"):
        spiffe_id(DEFAULT_TRUST_DOMAIN, "a" * 2048)


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("https://c2c.internal/control-plane", "not a SPIFFE id"),
        ("SPIFFE://c2c.internal/control-plane", "not a SPIFFE id"),
        (f"spiffe://c2c.internal/{'a' * 2048}", "not a SPIFFE id"),
        ("spiffe://evil/control-plane", "of another trust domain than c2c.internal"),
        ("spiffe://C2C.internal/control-plane", "of another trust domain"),
        ("spiffe://c2c.internal:80/control-plane", "of another trust domain"),
        ("spiffe://c2c.internal.evil/control-plane", "of another trust domain"),
        ("spiffe://u@c2c.internal/control-plane", "of another trust domain"),
        ("spiffe://c2c.internal", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/control-plane/", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal//control-plane", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/a/../control-plane", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/control-plane?x=1", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/control-plane#x", "segment of a SPIFFE id"),
        ("spiffe://c2c.internal/control%2dplane", "segment of a SPIFFE id"),
    ],
    ids=lambda text: text[:48],
)
def test_nearly_right_ids(uri: str, rule: str) -> None:
    """An id that is nearly ours is not ours."""
    with pytest.raises(InvalidArgument, match=re.escape(rule)):
        read_spiffe_id(uri, DEFAULT_TRUST_DOMAIN)
