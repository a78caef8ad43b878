"""Names and numbers: what is accepted and in which form, and the sentence that refuses the rest."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import InvalidArgument
from control_plane.names import (
    C2C_PORT,
    DEFAULT_APP_PORT,
    Domain,
    abridged,
    parse_address,
    parse_app_name,
    parse_domain,
    parse_guid,
    parse_host,
    parse_port,
    route_hostname,
    shown,
)

LABEL_63 = "a" * 63
LABEL_64 = "a" * 64
DOMAIN_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])
DOMAIN_254 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 62])


def instance_guid(text: str) -> str:
    """Parse a GUID as the field that most requests have it in."""
    return parse_guid(text, field="instance_guid")


def ids(rows: Sequence[tuple[Callable[[str], str], str, str]]) -> list[str]:
    """Name each row by what is parsed, short enough to be read."""
    return [f"{parse.__name__}-{shown(text)}" for parse, text, _ in rows]


GOOD: list[tuple[Callable[[str], str], str, str]] = [
    (parse_host, "app-b", "app-b"),
    (parse_host, "App-B", "app-b"),
    (parse_host, "app_b", "app_b"),
    (parse_host, "0", "0"),
    (parse_host, "-", "-"),
    (parse_host, LABEL_63, LABEL_63),
    (parse_domain, "apps.internal", "apps.internal"),
    (parse_domain, "Apps.INTERNAL", "apps.internal"),
    (parse_domain, "apps.internal.", "apps.internal"),
    (parse_domain, "a.b", "a.b"),
    (parse_domain, "3com.example", "3com.example"),
    (parse_domain, "xn--bcher-kva.example", "xn--bcher-kva.example"),
    (parse_domain, DOMAIN_253, DOMAIN_253),
    (parse_app_name, "app-b", "app-b"),
    (parse_app_name, "App.B_2", "App.B_2"),
    (parse_app_name, LABEL_63, LABEL_63),
    (instance_guid, "b66d0aa2-cf1f-4b4e-6029-b6c5", "b66d0aa2-cf1f-4b4e-6029-b6c5"),
    (instance_guid, "a", "a"),
    (instance_guid, LABEL_63, LABEL_63),
    (parse_address, "10.255.0.4", "10.255.0.4"),
    (parse_address, "127.0.1.1", "127.0.1.1"),
    (parse_address, "2001:DB8:0:0::1", "2001:db8::1"),
    (parse_address, "169.254.0.1", "169.254.0.1"),
    (parse_address, "FEC0:0::0001", "fec0::1"),
    (parse_address, "::ffff:10.255.0.4", "10.255.0.4"),
]


@pytest.mark.parametrize(("parse", "text", "expected"), GOOD, ids=ids(GOOD))
def test_a_good_name_has_one_form(parse: Callable[[str], str], text: str, expected: str) -> None:
    """A name or address that keeps the rules is returned in its canonical form."""
    assert parse(text) == expected


HOST_MISSING = "hostname missing: an internal route needs a host"
HOST_WILDCARD = "wildcard hosts are not supported for internal domains: {}"
HOST_PATH = "paths are not supported for internal domains: {}"
HOST_CHARACTERS = "hostname may only have letters, digits, '-' and '_' in one label: {}"
HOST_LONG = "hostname label longer than 63 octets: {}"
DOMAIN_MISSING = "domain missing"
DOMAIN_LONG = "domain longer than 253 octets: {}"
DOMAIN_LABELS = "domain needs at least two labels: {}"
DOMAIN_LABEL_LONG = f"domain label longer than 63 octets: {LABEL_64!r}"
DOMAIN_CHARACTERS = "domain does not comply with RFC 1035: {}"
APP_MISSING = "app name missing"
APP_LONG = "app name longer than 63 characters: {}"
APP_CHARACTERS = (
    "app name must start with a letter or digit and have only letters, digits, '.', '-' and '_': {}"
)
GUID_MISSING = "instance guid missing"
GUID_RULE = "guid must be 1 to 63 letters, digits and '-', with '-' neither first nor last: {}"
ADDRESS_MISSING = "address missing"
ADDRESS_SYNTAX = "not an IP address: {}"
ADDRESS_KIND = (
    "an instance cannot have an unspecified, multicast, broadcast, IPv6 link-local or scoped "
    "address: {}"
)

BAD: list[tuple[Callable[[str], str], str, str]] = [
    (parse_host, "", HOST_MISSING),
    (parse_host, "*", HOST_WILDCARD),
    (parse_host, "*.app-b", HOST_WILDCARD),
    (parse_host, "app*", HOST_WILDCARD),
    (parse_host, "*/v2", HOST_WILDCARD),
    (parse_host, "app-b/v2", HOST_PATH),
    (parse_host, "/", HOST_PATH),
    (parse_host, "0.app-b", HOST_CHARACTERS),
    (parse_host, ".", HOST_CHARACTERS),
    (parse_host, " ", HOST_CHARACTERS),
    (parse_host, "app b", HOST_CHARACTERS),
    (parse_host, "app-b\n", HOST_CHARACTERS),
    (parse_host, "app\x00b", HOST_CHARACTERS),
    (parse_host, "app-b:61443", HOST_CHARACTERS),
    (parse_host, "bücher", HOST_CHARACTERS),
    (parse_host, "٣", HOST_CHARACTERS),
    (parse_host, LABEL_64, HOST_LONG),
    (parse_host, "a" * 1_000_000, HOST_LONG),
    (parse_domain, "", DOMAIN_MISSING),
    (parse_domain, ".", DOMAIN_MISSING),
    (parse_domain, DOMAIN_254, DOMAIN_LONG),
    (parse_domain, "a." * 500_000, DOMAIN_LONG),
    (parse_domain, "internal", DOMAIN_LABELS),
    (parse_domain, "internal.", DOMAIN_LABELS),
    (parse_domain, LABEL_64, DOMAIN_LABELS),
    (parse_domain, f"{LABEL_64}.internal", DOMAIN_LABEL_LONG),
    (parse_domain, f"apps.{LABEL_64}", DOMAIN_LABEL_LONG),
    (parse_domain, "..", DOMAIN_CHARACTERS),
    (parse_domain, "apps..internal", DOMAIN_CHARACTERS),
    (parse_domain, ".apps.internal", DOMAIN_CHARACTERS),
    (parse_domain, "apps.internal..", DOMAIN_CHARACTERS),
    (parse_domain, "*.apps.internal", DOMAIN_CHARACTERS),
    (parse_domain, "my_apps.internal", DOMAIN_CHARACTERS),
    (parse_domain, "-apps.internal", DOMAIN_CHARACTERS),
    (parse_domain, "apps-.internal", DOMAIN_CHARACTERS),
    (parse_domain, "apps.internal\n", DOMAIN_CHARACTERS),
    (parse_domain, "apps.internal/v2", DOMAIN_CHARACTERS),
    (parse_domain, "apps.internal:61443", DOMAIN_CHARACTERS),
    (parse_domain, "bücher.example", DOMAIN_CHARACTERS),
    (parse_app_name, "", APP_MISSING),
    (parse_app_name, LABEL_64, APP_LONG),
    (parse_app_name, "-app", APP_CHARACTERS),
    (parse_app_name, "_app", APP_CHARACTERS),
    (parse_app_name, ".app", APP_CHARACTERS),
    (parse_app_name, "app b", APP_CHARACTERS),
    (parse_app_name, "app/b", APP_CHARACTERS),
    (parse_app_name, "app\n", APP_CHARACTERS),
    (parse_app_name, "äpp", APP_CHARACTERS),
    (instance_guid, "", GUID_MISSING),
    (instance_guid, LABEL_64, GUID_RULE),
    (instance_guid, "-b66d", GUID_RULE),
    (instance_guid, "b66d-", GUID_RULE),
    (instance_guid, "b66d_0aa2", GUID_RULE),
    (instance_guid, "b66d.0aa2", GUID_RULE),
    (instance_guid, "b66d\n", GUID_RULE),
    (instance_guid, "../b66d", GUID_RULE),
    (parse_address, "", ADDRESS_MISSING),
    (parse_address, "localhost", ADDRESS_SYNTAX),
    (parse_address, "10.0.0", ADDRESS_SYNTAX),
    (parse_address, "10.0.0.256", ADDRESS_SYNTAX),
    (parse_address, "010.0.0.1", ADDRESS_SYNTAX),
    (parse_address, "10.0.0.1/32", ADDRESS_SYNTAX),
    (parse_address, "10.0.0.1:8080", ADDRESS_SYNTAX),
    (parse_address, "[::1]", ADDRESS_SYNTAX),
    (parse_address, " 10.0.0.1", ADDRESS_SYNTAX),
    (parse_address, "0.0.0.0", ADDRESS_KIND),
    (parse_address, "::", ADDRESS_KIND),
    (parse_address, "::ffff:0.0.0.0", ADDRESS_KIND),
    (parse_address, "224.0.0.1", ADDRESS_KIND),
    (parse_address, "ff02::1", ADDRESS_KIND),
    (parse_address, "::ffff:224.0.0.1", ADDRESS_KIND),
    (parse_address, "255.255.255.255", ADDRESS_KIND),
    (parse_address, "fe80::1%eth0", ADDRESS_KIND),
    (parse_address, "fe80::1", ADDRESS_KIND),
    (parse_address, "fd00::1%eth0", ADDRESS_KIND),
]


@pytest.mark.parametrize(("parse", "text", "sentence"), BAD, ids=ids(BAD))
def test_a_bad_name_is_refused_with_the_rule(
    parse: Callable[[str], str], text: str, sentence: str
) -> None:
    """A name or address that breaks a rule is refused by a sentence that quotes value and rule."""
    with pytest.raises(InvalidArgument) as refused:
        parse(text)

    assert refused.value.rule == sentence.format(shown(text))


@pytest.mark.parametrize(
    ("parse", "default"),
    [
        (parse_host, "hostname"),
        (parse_domain, "domain"),
        (parse_app_name, "name"),
        (parse_address, "address"),
    ],
)
def test_a_refusal_names_the_field(parse: Callable[..., str], default: str) -> None:
    """A refusal names the usual field of the API, or the one that the caller says it came from."""
    with pytest.raises(InvalidArgument) as refused:
        parse("")
    assert refused.value.field == default

    with pytest.raises(InvalidArgument) as refused:
        parse("", field="app_address")
    assert refused.value.field == "app_address"


def test_a_missing_value_is_called_by_its_field() -> None:
    """An address or GUID that is missing is called by the name of its field, in words."""
    with pytest.raises(InvalidArgument, match=r"^app address missing$"):
        parse_address("", field="app_address")
    with pytest.raises(InvalidArgument, match=r"^app guid missing$"):
        parse_guid("", field="app_guid")


def test_a_route_hostname_is_host_and_domain() -> None:
    """The full name of a route is its host, a dot and its domain."""
    assert route_hostname("app-b", Domain("apps.internal")) == "app-b.apps.internal"


def test_a_route_hostname_has_at_most_253_octets() -> None:
    """Host and domain may each keep their rule and still be too long together."""
    domain = Domain(DOMAIN_253.removeprefix("aa"))

    assert len(route_hostname("b", domain)) == 253
    with pytest.raises(InvalidArgument) as refused:
        route_hostname("bb", domain)

    assert refused.value.field == "hostname"
    assert refused.value.rule == (
        "host combined with domain name must be no more than 253 characters: "
        f"254 in {shown(f'bb.{domain}')}"
    )


@pytest.mark.parametrize("value", [1, 80, 1024, 8080, 61443, 65535])
def test_a_port_in_range_is_accepted(value: int) -> None:
    """Every number that a TCP or UDP header can carry, but 0, is a port."""
    assert parse_port(value) == value


@pytest.mark.parametrize("value", [-1, 0, 65536, 2**32 - 1])
def test_a_port_out_of_range_is_refused(value: int) -> None:
    """A number that is no port is refused with the sentence that Cloud Foundry has for it."""
    with pytest.raises(InvalidArgument) as refused:
        parse_port(value, field="ports")

    assert refused.value.rule == f"invalid port {value}, must be in range 1-65535"
    assert refused.value.field == "ports"


def test_the_well_known_ports() -> None:
    """HTTPS between containers is on 61443, and an app listens on 8080 unless it says otherwise."""
    assert parse_port(61443) == C2C_PORT
    assert parse_port(8080) == DEFAULT_APP_PORT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("app-b", "'app-b'"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        (8080, "8080"),
        ("a" * 78, f"'{'a' * 78}'"),
        ("a" * 79, f"'{'a' * 79}..."),
    ],
)
def test_a_quoted_value_is_safe_to_print(value: object, expected: str) -> None:
    """A value in a message is escaped, and cut at 80 characters."""
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("app not found", "app not found"),
        (f"cannot read /{'a' * 298}: no", f"cannot read /{'a' * 298}: no"),
        (f"cannot read /{'a' * 299}: no", f"cannot read /{'a' * 79}...: no"),
        ("a " * 1000, "a " * 1000),
        ("a " * 1001, f"{'a ' * 1000}..."),
    ],
)
def test_nothing_floods_a_message(sentence: str, expected: str) -> None:
    """A path that somebody has is whole; what nobody typed by hand is cut."""
    assert abridged(sentence) == expected


@given(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=63))
def test_a_parsed_host_is_stable(text: str) -> None:
    """Parsing what was parsed before changes nothing, so that a stored host equals a new one."""
    host = parse_host(text)

    assert parse_host(host) == host
    assert parse_host(text.swapcase()) == host


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="2001:db8::/32"))
def test_an_address_keeps_its_meaning(address: IPv4Address | IPv6Address) -> None:
    """However an address is written, it gets the one form that means the same."""
    assert parse_address(address.exploded) == str(address)
