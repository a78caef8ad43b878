"""Whatever comes, a parser returns what keeps its rules or says which one is broken."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import create_authority, new_key_pair
from control_plane.ca.certificate import read_certificate
from control_plane.ca.csr import parse_csr
from control_plane.ca.san import parse_dns_name
from control_plane.errors import InvalidArgument
from control_plane.names import parse_address, parse_app_name, parse_domain, parse_guid, parse_host
from control_plane.server.api.join_tokens import token_digest
from tests.fuzz.budget import PARSER
from tests.fuzz.sensible import CSR, like

LABELS = st.text("abcXYZ019-_.*:/ \x00\n\u00e9\u0130\u212a\U0001f600", max_size=70)
"""Text near the rules: letters and digits, what is nearly allowed, and what changes by folding."""

DOMAINS = st.lists(st.text("azAZ09-\u212a", min_size=1, max_size=9), max_size=40).map(".".join)
"""Labels with dots between them, about as many as there may be: random text hardly is a domain."""

CERTIFICATE = create_authority(
    "test CA",
    now=datetime(2026, 3, 1, tzinfo=UTC),
    lifetime=timedelta(days=1),
    key=new_key_pair(),
    serial=1,
).trust_bundle_pem

T = TypeVar("T")
R = TypeVar("R")


def _parsed(parse: Callable[[T], R], value: T) -> R | None:
    """Return what a parser makes of a value; None if it refuses, in one printable line."""
    refusal = ""
    try:
        return parse(value)
    except InvalidArgument as error:
        refusal = error.rule
    assert refusal
    assert refusal.isprintable()
    assert len(refusal) < 1_000
    return None


@PARSER
@given(st.one_of(LABELS, st.text()))
def test_a_host_that_is_accepted_is_one_lower_case_label(text: str) -> None:
    """RFC 1035, 2.3.4: at most 63 octets; no dot, so that nobody gets into another's domain."""
    host = _parsed(parse_host, text)
    if host is not None:
        assert host == host.lower()
        assert host.isascii()
        assert 1 <= len(host) <= 63
        assert "." not in host
        assert _parsed(parse_host, host) == host


@PARSER
@given(st.one_of(DOMAINS, LABELS, st.text()))
def test_a_domain_that_is_accepted_stays_what_it_is(text: str) -> None:
    """Read again it is the same, every label is one, and a certificate may have it."""
    domain = _parsed(parse_domain, text)
    if domain is not None:
        assert _parsed(parse_domain, domain) == domain
        assert all(1 <= len(label) <= 63 for label in domain.split("."))
        assert parse_dns_name(domain) == domain


@PARSER
@given(st.one_of(LABELS, st.text()))
@pytest.mark.parametrize(
    "parse",
    [
        pytest.param(lambda text: parse_guid(text, field="guid"), id="guid"),
        pytest.param(parse_app_name, id="app"),
        pytest.param(parse_dns_name, id="dns-name"),
    ],
)
def test_a_name_that_is_accepted_can_be_read_again(parse: Callable[[str], str], text: str) -> None:
    """What is stored is in its final form."""
    name = _parsed(parse, text)
    if name is not None:
        assert _parsed(parse, name) == name
        assert name.isprintable()


@PARSER
@given(st.one_of(st.ip_addresses().map(str), st.text("0123456789abcdef.:%/ ", max_size=45)))
def test_an_address_that_is_accepted_is_in_canonical_form(text: str) -> None:
    """Two spellings of one address are one address, or two instances could have it."""
    address = _parsed(parse_address, text)
    if address is not None:
        plain = ipaddress.ip_address(text)
        mapped = getattr(plain, "ipv4_mapped", None)
        assert address == str(mapped or plain)


# A certificate with the serial 0, as some old roots have, is read; cryptography warns of it.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@PARSER
@given(data=st.data())
@pytest.mark.parametrize(
    ("parse", "near"),
    [(parse_csr, like(CSR)), (read_certificate, like(CERTIFICATE))],
    ids=["csr", "certificate"],
)
def test_bytes_are_what_they_should_be_or_refused(
    parse: Callable[[bytes], object], near: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    """Whatever is sent to be signed or shown in a handshake, nothing but a sentence comes back."""
    _parsed(parse, data.draw(near))


@PARSER
@given(st.one_of(st.text(), st.text(min_size=500, max_size=5_000)))
def test_any_text_has_the_digest_of_a_token_or_is_refused(text: str) -> None:
    """A token is looked up by its digest, also one that nobody ever made."""
    digest = _parsed(token_digest, text)
    if digest is not None:
        assert len(digest) == 64
