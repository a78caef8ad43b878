"""The size of a certificate, known before it is signed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    IdentityRequest,
    KeyPair,
    OperatorRequest,
    Profile,
    Request,
    ServerRequest,
    check_size,
    create_authority,
    issue,
    new_key_pair,
)
from control_plane.ca.size import SLACK, handshake_bytes
from control_plane.errors import FailedPrecondition
from tests.unit.ca.forge import NOW, handshake_size, made

LABELS = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True)
HOSTNAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=1, max_size=40)
PRINTABLE = TEXT.filter(str.isprintable)
GUIDS = st.from_regex(r"[A-Za-z0-9]{1,60}", fullmatch=True)
ADDRESSES = st.sampled_from(["10.0.0.1", "2001:db8::1"])
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        C2CRequest,
        GUIDS,
        GUIDS,
        PRINTABLE,
        PRINTABLE,
        st.lists(HOSTNAMES, max_size=40).map(tuple),
        st.integers(0, 2000),
        ADDRESSES,
    ),
    st.builds(
        IdentityRequest,
        st.just(DEFAULT_TRUST_DOMAIN),
        GUIDS,
        GUIDS,
        PRINTABLE,
        PRINTABLE,
        ADDRESSES,
    ),
    st.builds(
        ServerRequest,
        st.just(DEFAULT_TRUST_DOMAIN),
        st.lists(HOSTNAMES, min_size=1, max_size=3).map(tuple),
        st.lists(ADDRESSES, max_size=2).map(tuple),
    ),
    st.builds(OperatorRequest, st.just(DEFAULT_TRUST_DOMAIN), GUIDS),
)
SERIALS = st.integers(1, 2**159 - 1)
LARGE = Profile(max_chain_bytes=65_000)


@pytest.fixture(scope="session")
def authorities(rsa_key: KeyPair, p384_key: KeyPair) -> list[Authority]:
    """Return a CA of each kind of key, one of them an intermediate without a key identifier."""
    roots = [
        create_authority("CA" * 30, now=NOW, lifetime=timedelta(days=9000), key=key, serial=1)
        for key in (new_key_pair(), rsa_key, p384_key)
    ]
    root = made("root")
    middle = made("middle", by=root)
    ca = made("ca", by=middle)
    chain = (ca.certificate, middle.certificate)
    return [*roots, Authority(ca.certificate, ca.key, chain=chain, roots=(root.certificate,))]


@given(request=REQUESTS, serial=SERIALS, which=st.integers(0, 3))
def test_bound_is_tight(
    authorities: list[Authority], request: Request, serial: int, which: int
) -> None:
    """The bound is never below the real size, and a few octets above it at most."""
    authority = authorities[which]
    leaf = issue(authority, LARGE, request, key=new_key_pair, now=NOW, serial=serial)

    size = handshake_size(leaf.certificate_chain_pem)
    assert 0 <= handshake_bytes(authority, request) - size <= SLACK


LONG_NAMES = [f"{'a' * 60}.{'b' * 60}.{'c' * length}" for length in range(1, 9)]


@given(request=REQUESTS)
@example(request=C2CRequest("i", "a", "o", "s", tuple(LONG_NAMES), 0, "10.0.0.1"))
def test_bound_is_exact_where_nothing_varies(
    authorities: list[Authority], request: Request
) -> None:
    """With an RSA signature and the longest serial, only the shorter dates before 2050 are left."""
    authority = authorities[1]
    leaf = issue(authority, LARGE, request, key=new_key_pair, now=NOW, serial=2**159 - 1)

    size = handshake_size(leaf.certificate_chain_pem)
    assert handshake_bytes(authority, request) - size == 4


def test_dates_after_2049() -> None:
    """Dates are written longer from 2050 on (RFC 5280, section 4.1.2.5), and the bound knows."""
    now = datetime(2050, 1, 2, tzinfo=UTC)
    key = new_key_pair()
    authority = create_authority("CA", now=now, lifetime=timedelta(days=9), key=key, serial=1)
    request = OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane")
    leaf = issue(authority, LARGE, request, key=new_key_pair, now=now, serial=2**158)

    size = handshake_size(leaf.certificate_chain_pem)
    assert 0 <= handshake_bytes(authority, request) - size <= 4


def test_the_mapping_too_many(authority: Authority, request_c2c: C2CRequest) -> None:
    """The mapping that would pass the bound is refused, and the one before is not (C15)."""
    names = [f"app-{number}.apps.internal" for number in range(800)]
    fitting = max(
        count
        for count in range(len(names))
        if handshake_bytes(authority, replace(request_c2c, hostnames=tuple(names[:count])))
        <= 32_000
    )
    full = replace(request_c2c, hostnames=tuple(names[:fitting]))
    fuller = replace(request_c2c, hostnames=tuple(names[: fitting + 1]))

    check_size(authority, Profile(), full)
    with pytest.raises(FailedPrecondition) as caught:
        check_size(authority, Profile(), fuller)

    size = handshake_bytes(authority, fuller)
    assert caught.value.field == "hostname"
    assert caught.value.rule == (
        f"the certificate of 'b66d0aa2-cf1f-4b4e-6029-b6c5' would take {size} bytes of the TLS "
        f"handshake, more than the 32000 that every client takes: map fewer or shorter routes to "
        f"the app; routes that were unmapped just now count until no resolver answers them, and it "
        f"is issued once it fits"
    )


def test_refused_before_a_key_is_made(authority: Authority, request_c2c: C2CRequest) -> None:
    """A certificate that is too large is refused before any work is done for it."""
    names = tuple(f"{'a' * 60}{number}.apps.internal" for number in range(30))

    def no_key() -> KeyPair:
        raise AssertionError

    with pytest.raises(FailedPrecondition, match="more than the 4000 that every client takes"):
        issue(
            authority,
            Profile(max_chain_bytes=4000),
            replace(request_c2c, hostnames=names),
            key=no_key,
            now=NOW,
            serial=1,
        )
