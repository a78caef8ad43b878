"""The name table: what it refuses, and what it finds."""

from __future__ import annotations

import pytest
from dns.rdatatype import AAAA, MX, A

from control_plane.errors import InvalidArgument
from control_plane.sidecar.dns.table import labels_of, text_of
from tests.unit.sidecar_dns.tables import table_of

FOUR = bytes([10, 255, 0, 4])
FIVE = bytes([10, 255, 0, 5])
SIX = bytes(15) + b"\1"

NO_INSTANCE_HAS_IT = (
    "an instance cannot have an unspecified, multicast, broadcast, IPv6 link-local or scoped "
    "address"
)


def test_a_name_has_all_its_addresses_by_type() -> None:
    """A finds IPv4 addresses, AAAA finds IPv6 addresses, in the order of the table."""
    table = table_of({"app-b.apps.internal": ["10.255.0.4", "10.255.0.5", "::1"]})

    name = labels_of("app-b.apps.internal")
    assert table.lookup(name, A) == (FOUR, FIVE)
    assert table.lookup(name, AAAA) == (SIX,)


def test_other_types_and_other_names_have_nothing() -> None:
    """A type that carries no address, a name without instances and an unknown name find nothing."""
    table = table_of({"app-b.apps.internal": ["10.255.0.4"], "empty.apps.internal": []})

    assert table.lookup(labels_of("app-b.apps.internal"), MX) == ()
    assert table.lookup(labels_of("app-b.apps.internal"), AAAA) == ()
    assert table.lookup(labels_of("empty.apps.internal"), A) == ()
    assert table.lookup(labels_of("app-c.apps.internal"), A) == ()


def test_the_name_of_one_instance_is_a_name_like_others() -> None:
    """0.app-b.apps.internal is found as it stands in the table, and no index is made up."""
    table = table_of({"0.app-b.apps.internal": ["10.255.0.4"]})

    assert table.lookup(labels_of("0.app-b.apps.internal"), A) == (FOUR,)
    assert table.lookup(labels_of("1.app-b.apps.internal"), A) == ()


def test_names_domains_and_addresses_are_made_canonical() -> None:
    """Letter case, a domain's final dot, and IPv4-mapped and repeated addresses do not matter."""
    table = table_of(
        {"App-B.APPS.internal": ["::ffff:10.255.0.4", "10.255.0.4"]}, ["Apps.Internal."]
    )

    assert table.lookup(labels_of("app-b.apps.internal"), A) == (FOUR,)
    assert table.lookup(labels_of("app-b.apps.internal"), AAAA) == ()


@pytest.mark.parametrize(
    ("name", "internal"),
    [
        ("app-b.apps.internal", True),
        ("0.app-b.apps.internal", True),
        ("apps.internal", True),
        ("deep.below.other.test", True),
        ("internal", False),
        ("myapps.internal", False),
        ("apps.internal.example.com", False),
        ("example.com", False),
    ],
)
def test_what_is_internal(name: str, *, internal: bool) -> None:
    """A domain of the table and all below it is internal, whole labels compared."""
    table = table_of({}, ["apps.internal", "other.test"])

    assert table.is_internal(labels_of(name)) is internal


def test_a_label_with_a_dot_in_it_is_one_label() -> None:
    """A label on the wire may contain a dot, and is not taken for two."""
    table = table_of({"app-b.apps.internal": ["10.255.0.4"]})

    assert table.lookup((b"app-b.apps", b"internal"), A) == ()
    assert not table.is_internal((b"app-b.apps", b"internal"))
    assert not table.is_internal((b"apps.internal",))


def test_the_root_is_not_internal() -> None:
    """The root, which has no label at all, is below no internal domain."""
    assert not table_of({}).is_internal(())


@pytest.mark.parametrize(
    ("names", "domains", "sentence"),
    [
        ({}, [], "a name table needs at least one internal domain"),
        ({}, ["internal"], "domain needs at least two labels: 'internal'"),
        ({}, ["apps..internal"], "domain does not comply with RFC 1035: 'apps..internal'"),
        (
            {"app-b.apps.internal": [], "APP-B.apps.internal": []},
            ["apps.internal"],
            "name occurs twice: 'APP-B.apps.internal'",
        ),
        (
            {"app-b.example.com": []},
            ["apps.internal"],
            "name outside the internal domains: 'app-b.example.com'",
        ),
        (
            {"apps.internal": []},
            ["apps.internal"],
            "name outside the internal domains: 'apps.internal'",
        ),
        (
            {"app-b.apps.internal": ["10.255.0"]},
            ["apps.internal"],
            "not an IP address: '10.255.0'",
        ),
        (
            {"app-b.apps.internal": ["0.0.0.0"]},
            ["apps.internal"],
            f"{NO_INSTANCE_HAS_IT}: '0.0.0.0'",
        ),
    ],
    ids=[
        "no domain",
        "short domain",
        "bad domain",
        "twice",
        "outside",
        "the domain itself",
        "no address",
        "unspecified address",
    ],
)
def test_a_bad_table_is_refused(
    names: dict[str, list[str]], domains: list[str], sentence: str
) -> None:
    """A table with one bad entry is refused as a whole, with a sentence that names it."""
    with pytest.raises(InvalidArgument) as refused:
        table_of(names, domains)

    assert refused.value.rule == sentence


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".apps.internal",
        "app-b..apps.internal",
        "app-b.apps.internal.",
        "app b.apps.internal",
        "app-b.apps.internal\n",
        "äpp.apps.internal",
        "*.apps.internal",
        "a" * 64 + ".apps.internal",
        ".".join(["a" * 60] * 5) + ".apps.internal",
    ],
)
def test_what_is_no_dns_name_is_refused(name: str) -> None:
    """A name that no DNS client could ask for, or that another text could be mistaken for."""
    with pytest.raises(InvalidArgument, match="a name must be labels of 1 to 63 letters, digits"):
        table_of({name: []})


def test_the_longest_name_is_taken() -> None:
    """253 characters, labels of 63, are what DNS can carry (RFC 1035, section 2.3.4)."""
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * (253 - 3 * 64 - 14), "apps.internal"])
    table = table_of({name: ["10.255.0.4"]})

    assert len(name) == 253
    assert table.lookup(labels_of(name), A) == (FOUR,)


def test_the_version_is_that_of_the_resource() -> None:
    """A table knows by which version the control plane calls it."""
    assert table_of({}, version="cafe").version == "cafe"


def test_text_and_labels_are_each_other() -> None:
    """A name that was checked survives the way to labels and back."""
    assert text_of(labels_of("0.app-b.apps.internal")) == "0.app-b.apps.internal"


def test_a_refusal_names_its_field() -> None:
    """The field at fault is named, so that programs can tell names from addresses."""
    with pytest.raises(InvalidArgument) as refused:
        table_of({"app-b.apps.internal": ["x"]})

    assert refused.value.field == "addresses"
