"""Who is at the other end: one SPIFFE id of ours, or nobody."""

from __future__ import annotations

import functools
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    ControlPlaneIdentity,
    IdentityRequest,
    InstanceIdentity,
    OperatorIdentity,
    OperatorRequest,
    Profile,
    Request,
    San,
    ServerRequest,
    issue,
    new_key_pair,
    parse_trust_domain,
    peer_identity,
)
from control_plane.errors import Unauthenticated
from control_plane.names import AppGuid, InstanceGuid
from tests.unit.ca.forge import CA, NOW, made

GUID = "b66d0aa2-cf1f-4b4e-6029-b6c5"
INSTANCE = IdentityRequest(DEFAULT_TRUST_DOMAIN, GUID, "6a2f9a3e", "acme", "dev", "10.255.1.7")
SERVER = ServerRequest(DEFAULT_TRUST_DOMAIN, ("localhost",), ())

pytestmark = pytest.mark.filterwarnings(
    "ignore:Parsed a serial number which wasn't positive"  # the library's, for mutated ones
)


def with_uris(*uris: str) -> bytes:
    """Return a certificate with these URIs, in PEM."""
    return made("x", extensions=[*CA, (San(("a.b",), (), uris).extension(), False)]).pem


def issued(authority: Authority, request: Request) -> bytes:
    """Return an issued chain, in PEM."""
    leaf = issue(authority, Profile(), request, key=new_key_pair, now=NOW, serial=0xC2C)
    return leaf.certificate_chain_pem


def test_instance(authority: Authority) -> None:
    """An instance's certificate proves the instance and its app, until it ends."""
    begin, end = Profile().window(NOW, authority.not_before, authority.not_after)

    assert peer_identity(issued(authority, INSTANCE), DEFAULT_TRUST_DOMAIN) == InstanceIdentity(
        AppGuid("6a2f9a3e"), InstanceGuid(GUID), begin, end, 0xC2C, "CN=c2c CA"
    )


def test_operator_and_control_plane(authority: Authority) -> None:
    """An operator and the control plane are told apart from instances by type."""
    _, end = Profile().window(NOW, authority.not_before, authority.not_after)
    operator = issued(authority, OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane"))

    assert peer_identity(operator, DEFAULT_TRUST_DOMAIN) == OperatorIdentity(
        "jane", end, 0xC2C, "CN=c2c CA"
    )
    assert peer_identity(issued(authority, SERVER), DEFAULT_TRUST_DOMAIN) == (
        ControlPlaneIdentity(end, 0xC2C, "CN=c2c CA")
    )


def test_c2c_certificate_is_nobody(authority: Authority, request_c2c: C2CRequest) -> None:
    """A C2C certificate, whose key Envoy holds, opens nothing on the control plane."""
    with pytest.raises(Unauthenticated, match="it needs exactly one SPIFFE id and has 0 URIs"):
        peer_identity(issued(authority, request_c2c), DEFAULT_TRUST_DOMAIN)


def test_trust_domain(authority: Authority) -> None:
    """An identity of another trust domain is nobody here, whoever signed it."""
    with pytest.raises(Unauthenticated, match=r"of another trust domain than other\.internal"):
        peer_identity(issued(authority, INSTANCE), parse_trust_domain("other.internal"))


@pytest.mark.parametrize(
    ("uris", "rule"),
    [
        ((), "it needs exactly one SPIFFE id and has 0 URIs"),
        (
            ("spiffe://c2c.internal/control-plane", "spiffe://c2c.internal/operator/jane"),
            "it needs exactly one SPIFFE id and has 2 URIs",
        ),
        (
            ("spiffe://c2c.internal/control-plane", "https://example.com/"),
            "it needs exactly one SPIFFE id and has 2 URIs",
        ),
        (("https://example.com/",), "not a SPIFFE id"),
        (
            ("spiffe://c2c.internal/app/a",),
            "SPIFFE path must be that of an instance, an operator or the control plane: /app/a",
        ),
        (("spiffe://c2c.internal/app/a/instance",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/app/a/instance/b/c",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/App/a/instance/b",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/operator",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/operator/a/b",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/control-plane/a",), "SPIFFE path must be that of"),
        (("spiffe://c2c.internal/app/a.b/instance/c",), "guid must be 1 to 63"),
        (("spiffe://c2c.internal/app/a/instance/b_c",), "guid must be 1 to 63"),
        (("spiffe://c2c.internal/operator/",), "segment of a SPIFFE id"),
    ],
    ids=lambda value: "+".join(value)[-40:] if isinstance(value, tuple) else value[:30],
)
def test_nobody(uris: tuple[str, ...], rule: str) -> None:
    """Everything else is nobody, and the sentence says why."""
    with pytest.raises(Unauthenticated, match=re.escape(rule)) as caught:
        peer_identity(with_uris(*uris), DEFAULT_TRUST_DOMAIN)

    assert caught.value.rule.startswith("client certificate refused: ")


@functools.cache
def sample() -> bytes:
    """Return a certificate that is somebody's, in DER."""
    pem = with_uris("spiffe://c2c.internal/app/a/instance/b")
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@given(st.one_of(st.binary(max_size=500), st.just(b"-----BEGIN CERTIFICATE-----")))
def test_any_bytes(data: bytes) -> None:
    """Random bytes are nobody, and raise nothing else."""
    with pytest.raises(Unauthenticated):
        peer_identity(data, DEFAULT_TRUST_DOMAIN)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_certificates(changes: list[tuple[int, int]]) -> None:
    """A certificate with some bytes changed is somebody or nobody, and nothing else happens."""
    data = bytearray(sample())
    for position, value in changes:
        data[position % len(data)] = value

    try:
        identity = peer_identity(bytes(data), DEFAULT_TRUST_DOMAIN)
    except Unauthenticated:
        return

    assert isinstance(identity, InstanceIdentity)
