"""Requests: which names a certificate is asked for, in which order, and what is refused."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    C2CRequest,
    IdentityRequest,
    OperatorRequest,
    PortsRequest,
    San,
    ServerRequest,
)
from control_plane.ca.request import Request, Usage
from control_plane.ca.subject import Subject
from control_plane.errors import InvalidArgument

LABEL_63 = "a" * 63
LABELS = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)
HOSTNAMES = st.builds(lambda host: f"{host}.apps.internal", LABELS)

IDENTITY = IdentityRequest(
    trust_domain=DEFAULT_TRUST_DOMAIN,
    instance_guid="b66d0aa2",
    app_guid="6a2f9a3e",
    org="acme",
    space="dev",
    address="10.255.1.7",
)

PORTS = PortsRequest("b66d0aa2", "6a2f9a3e", "acme", "dev", "10.255.1.7")


def test_c2c_names(request_c2c: C2CRequest) -> None:
    """The GUID comes first; then routes and per-index names, sorted; then the address (C3, C4)."""
    request = replace(
        request_c2c, index=3, hostnames=("b.apps.internal", "A.apps.internal", "a.apps.internal")
    )

    assert request.san == San(
        dns=(
            "b66d0aa2-cf1f-4b4e-6029-b6c5",
            "3.a.apps.internal",
            "3.b.apps.internal",
            "a.apps.internal",
            "b.apps.internal",
        ),
        ips=("10.255.1.7",),
    )


def test_c2c_without_routes(request_c2c: C2CRequest) -> None:
    """An app without any route has a certificate all the same (C10)."""
    assert replace(request_c2c, hostnames=()).san == San(
        dns=("b66d0aa2-cf1f-4b4e-6029-b6c5",), ips=("10.255.1.7",)
    )


def test_c2c_subject(request_c2c: C2CRequest) -> None:
    """The subject names organization, space and app as Cloud Foundry does, and the GUID (C2)."""
    assert request_c2c.subject == Subject(
        common_name="b66d0aa2-cf1f-4b4e-6029-b6c5",
        units=("organization:acme", "space:dev", "app:6a2f9a3e-2b9c-4c77-9f6e-0d5f0b1b3a11"),
    )


@given(st.permutations(["a.apps.internal", "b.apps.internal", "c.apps.internal"]))
def test_order_of_routes_does_not_matter(hostnames: list[str]) -> None:
    """The same routes in another order are the same request, so nothing is issued again (R3)."""
    request = C2CRequest("i", "a", "o", "s", tuple(hostnames), 0, "2001:DB8:0::1")

    assert request == C2CRequest("i", "a", "o", "s", tuple(sorted(hostnames)), 0, "2001:db8::1")
    assert hash(request) == hash(
        C2CRequest("i", "a", "o", "s", tuple(sorted(hostnames)), 0, "2001:db8::1")
    )


@given(st.lists(HOSTNAMES, max_size=20), st.integers(0, 1000))
def test_names_in_and_out(hostnames: list[str], index: int) -> None:
    """The names are the GUID and, sorted and once each, every route and its per-index name."""
    dns = C2CRequest("guid", "a", "o", "s", tuple(hostnames), index, "10.0.0.1").san.dns

    assert dns[0] == "guid"
    assert list(dns[1:]) == sorted(set(dns[1:]))
    assert set(dns[1:]) == {*hostnames, *(f"{index}.{hostname}" for hostname in hostnames)}


def test_guid_is_not_repeated() -> None:
    """A route that has the GUID as its name does not put it there twice."""
    assert C2CRequest("guid", "a", "o", "s", ("guid",), 0, "10.0.0.1").san.dns == ("guid", "0.guid")


def test_long_per_index_name_is_left_out(request_c2c: C2CRequest) -> None:
    """A per-index name longer than DNS allows is left out; the route itself stays."""
    longest = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])
    fits = longest[2:]
    request = replace(request_c2c, index=7, hostnames=(longest, fits))

    assert set(request.san.dns[1:]) == {longest, fits, f"7.{fits}"}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"instance_guid": ""}, "instance_guid", "instance guid missing"),
        ({"instance_guid": "a.b"}, "instance_guid", "guid must be 1 to 63"),
        ({"instance_guid": "a" * 64}, "instance_guid", "guid must be 1 to 63"),
        ({"app_guid": ""}, "app_guid", "app guid missing"),
        ({"app_guid": "a" * 61}, "app_guid", "app guid longer than the 60 characters that a"),
        ({"org": ""}, "org", "org missing"),
        ({"org": "a" * 52}, "org", "org longer than the 51 characters that a certificate's"),
        ({"org": "a\nb"}, "org", "org has characters that cannot be printed: 'a\\nb'"),
        ({"org": "\ud800"}, "org", "org has characters that cannot be printed: '\\ud800'"),
        ({"space": ""}, "space", "space missing"),
        ({"space": "a" * 59}, "space", "space longer than the 58 characters that a"),
        ({"hostnames": ("a..b",)}, "hostname", "DNS name must be labels of 1 to 63"),
        ({"hostnames": ("*.apps.internal",)}, "hostname", "DNS name must be labels of 1 to 63"),
        ({"index": -1}, "index", "instance index must not be negative: -1"),
        ({"address": "10.0.0.256"}, "address", "not an IP address: '10.0.0.256'"),
        ({"address": "0.0.0.0"}, "address", "an instance cannot have an unspecified"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_c2c_requests(
    request_c2c: C2CRequest, change: dict[str, Any], field: str, rule: str
) -> None:
    """A request that could not be issued does not come to be, and says which field is at fault."""
    with pytest.raises(InvalidArgument, match=re.escape(rule)) as caught:
        replace(request_c2c, **change)

    assert caught.value.field == field


def test_longest_units(request_c2c: C2CRequest) -> None:
    """Units of 64 characters fit, also where characters take several octets each."""
    request = replace(request_c2c, org="ä" * 51, space="\N{PARTY POPPER}" * 58, app_guid="a" * 60)

    assert [len(unit) for unit in request.subject.units] == [64, 64, 64]


def test_the_ports_from_61001_show_no_identity() -> None:
    """Their certificate has the subject of an identity, its GUID and address, and no SPIFFE id."""
    assert PORTS.san == San(dns=("b66d0aa2",), ips=("10.255.1.7",))
    assert PORTS.subject == IDENTITY.subject


def test_identity() -> None:
    """An identity is a SPIFFE id of app and instance, with the GUID and address beside it."""
    assert IDENTITY.san == San(
        dns=("b66d0aa2",),
        ips=("10.255.1.7",),
        uris=("spiffe://c2c.internal/app/6a2f9a3e/instance/b66d0aa2",),
    )
    assert IDENTITY.subject == Subject(
        "b66d0aa2", ("organization:acme", "space:dev", "app:6a2f9a3e")
    )


def test_server() -> None:
    """The control plane's certificate has the names and addresses given, once each, in order."""
    request = ServerRequest(
        DEFAULT_TRUST_DOMAIN,
        dns_names=("control-plane", "localhost", "LOCALHOST"),
        addresses=("127.0.0.1", "::1", "127.0.0.1"),
    )

    assert request.san == San(
        dns=("control-plane", "localhost"),
        ips=("127.0.0.1", "::1"),
        uris=("spiffe://c2c.internal/control-plane",),
    )
    assert request.subject == Subject("control-plane")


def test_server_without_names() -> None:
    """A server certificate that no client could match is refused; an address is enough."""
    with pytest.raises(InvalidArgument, match="needs a DNS name or an address") as refused:
        ServerRequest(DEFAULT_TRUST_DOMAIN, dns_names=(), addresses=())

    assert refused.value.field == "dns_names"
    assert ServerRequest(DEFAULT_TRUST_DOMAIN, dns_names=(), addresses=("::1",)).san.ips == ("::1",)


@pytest.mark.parametrize(
    ("dns_names", "addresses", "field"),
    [(("a..b",), (), "dns_names"), ((), ("localhost",), "addresses")],
)
def test_server_with_a_bad_name(
    dns_names: tuple[str, ...], addresses: tuple[str, ...], field: str
) -> None:
    """It is said which of the two settings has it."""
    with pytest.raises(InvalidArgument) as refused:
        ServerRequest(DEFAULT_TRUST_DOMAIN, dns_names, addresses)

    assert refused.value.field == field


def test_operator() -> None:
    """An operator's certificate has a SPIFFE id and no name of any host."""
    request = OperatorRequest(DEFAULT_TRUST_DOMAIN, "Jane.Doe-2")

    assert request.san == San(uris=("spiffe://c2c.internal/operator/Jane.Doe-2",))
    assert request.subject == Subject("Jane.Doe-2")


@pytest.mark.parametrize("name", ["", "a" * 64], ids=["empty", "64-characters"])
def test_operator_name_length(name: str) -> None:
    """An operator's name has 1 to 63 characters."""
    with pytest.raises(InvalidArgument, match="must have 1 to 63 characters") as refused:
        OperatorRequest(DEFAULT_TRUST_DOMAIN, name)

    assert refused.value.field == "name"
    assert OperatorRequest(DEFAULT_TRUST_DOMAIN, "a" * 63).subject == Subject("a" * 63)


@pytest.mark.parametrize("name", ["a/b", "..", "jane doe", "é"], ids=ascii)
def test_operator_name_characters(name: str) -> None:
    """An operator's name cannot change the shape of the SPIFFE id, of which nobody has to know."""
    with pytest.raises(InvalidArgument) as refused:
        OperatorRequest(DEFAULT_TRUST_DOMAIN, name)

    assert refused.value.field == "name"
    assert str(refused.value) == (
        "operator name must be letters, digits, '.', '-' and '_', other than '.' and '..': "
        f"{name!r}"
    )


def test_usages(request_c2c: C2CRequest) -> None:
    """Only what connects as a client may prove to be one, and only what listens a server."""
    both = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)
    server = ServerRequest(DEFAULT_TRUST_DOMAIN, ("localhost",), ())

    assert request_c2c.usages == both
    assert IDENTITY.usages == both
    assert PORTS.usages == both
    assert server.usages == (Usage.SERVER_AUTH,)
    assert OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane").usages == (Usage.CLIENT_AUTH,)


def test_requests_can_be_pickled(request_c2c: C2CRequest) -> None:
    """A request can be handed to another process, which issues what it asks for."""
    operator = OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane")
    requests: list[Request] = [request_c2c, IDENTITY, PORTS, operator]

    for request in requests:
        copy = pickle.loads(pickle.dumps(request))  # noqa: S301 - we wrote it a moment ago
        assert copy == request
        assert copy.san == request.san


@pytest.mark.parametrize("name", ["", "a" * 65, "ä" * 33], ids=["empty", "65", "66-octets"])
def test_common_name_length(name: str) -> None:
    """A common name has 1 to 64 octets, which is what the X.509 library allows."""
    with pytest.raises(InvalidArgument, match="common name must have 1 to 64 octets"):
        Subject(name)
