"""DNS names as they get into certificates, and the extension that holds them."""

from __future__ import annotations

import re

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca.san import San, parse_dns_name, read_san
from control_plane.errors import InvalidArgument

LABEL_63 = "a" * 63


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("app-b.apps.internal", "app-b.apps.internal"),
        ("App_B.Apps.Internal", "app_b.apps.internal"),
        ("localhost", "localhost"),
        ("0.app-b.apps.internal", "0.app-b.apps.internal"),
        (f"{LABEL_63}.internal", f"{LABEL_63}.internal"),
    ],
    ids=["route", "capitals", "one-label", "per-index", "63-octets"],
)
def test_dns_names(text: str, name: str) -> None:
    """A DNS name is taken in lower case."""
    assert parse_dns_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        "*.apps.internal",
        "a b",
        "ä.internal",
        "a\n",
        "a\x00.b",
        "K" * 64,
    ],
    ids=ascii,
)
def test_bad_dns_names(text: str) -> None:
    """What x509.DNSName would take, and no resolver would, is refused with the rule."""
    rule = "DNS name must be labels of 1 to 63 letters, digits, '-' and '_': "

    with pytest.raises(InvalidArgument, match=re.escape(rule)) as caught:
        parse_dns_name(text, field="dns_names")

    assert caught.value.field == "dns_names"


def test_kelvin_sign() -> None:
    """A letter that only becomes ASCII in lower case is refused, or two spellings would be one."""
    with pytest.raises(InvalidArgument, match="DNS name must be labels"):
        parse_dns_name("\N{KELVIN SIGN}.internal")


def test_long_dns_name() -> None:
    """A name of 254 octets is refused (RFC 1035, section 2.3.4)."""
    name = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])

    assert parse_dns_name(name) == name
    with pytest.raises(InvalidArgument, match="DNS name longer than 253 octets: 'aaa"):
        parse_dns_name(f"{name}a")


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    """Whatever the text, it is either refused or a name that a certificate can hold unchanged."""
    try:
        name = parse_dns_name(text)
    except InvalidArgument:
        return

    assert read_san(San(dns=(name,)).extension()).dns == (name,)


def test_extension_keeps_order() -> None:
    """The extension has DNS names, addresses and URIs, each kind in the order given."""
    san = San(
        dns=("z", "a"),
        ips=("10.0.0.1", "2001:db8::1"),
        uris=("spiffe://c2c.internal/control-plane",),
    )

    assert read_san(san.extension()) == san
    assert [type(name).__name__ for name in san.extension()] == [
        "DNSName",
        "DNSName",
        "IPAddress",
        "IPAddress",
        "UniformResourceIdentifier",
    ]


def test_other_kinds_are_left_out() -> None:
    """Names of kinds that we never issue are not read."""
    mail = x509.RFC822Name("root@example.com")
    directory = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))

    assert read_san(x509.SubjectAlternativeName([mail, directory, x509.DNSName("a")])) == San(
        dns=("a",)
    )
