"""An authority and its orders on their way to another process."""

from __future__ import annotations

import pickle
from typing import TypeVar

import pytest

from control_plane.ca import Authority, C2CRequest, Profile, new_key_pair
from control_plane.ca.parcel import AuthorityParcel, Order
from control_plane.errors import IssuanceError
from tests.unit.ca.forge import NOW
from tests.unit.ca.test_cross_signing import crossed, embedded

T = TypeVar("T")

REQUEST = C2CRequest("guid", "app", "org", "space", ("b.apps.internal",), 0, "10.0.0.1")


def arrived(sent: T) -> T:
    """Return what the other process makes of it."""
    there: T = pickle.loads(pickle.dumps(sent))  # noqa: S301 - we wrote it a moment ago
    return there


@pytest.fixture(params=["plain", "with a detour"])
def authority(request: pytest.FixtureRequest) -> Authority:
    """Return one that nobody rotates, and one in the middle of that."""
    plain = embedded("CA")
    return plain if request.param == "plain" else crossed(plain, embedded("another CA"))


def test_an_authority_arrives_as_it_left(authority: Authority) -> None:
    """Everything that is signed, sent and trusted is the same."""
    there = arrived(AuthorityParcel.of(authority)).open()

    assert there.fingerprint == authority.fingerprint
    assert there.key.private_pem() == authority.key.private_pem()
    assert there.sent_pem == authority.sent_pem
    assert there.sent_digest == authority.sent_digest
    assert there.trust_bundle_pem == authority.trust_bundle_pem
    assert there.not_after == authority.not_after


def test_a_parcel_shows_no_key(authority: Authority) -> None:
    """What is in it may be shown in a log or an error, but for that."""
    assert "PRIVATE KEY" not in repr(AuthorityParcel.of(authority))


def test_an_order_is_filled_as_if_it_had_stayed(authority: Authority) -> None:
    """Names, serial and chain are what they were asked to be, and the certificate was linted."""
    order = arrived(Order(REQUEST, NOW, 7))
    leaf = arrived(order.fill(authority, Profile(), new_key_pair))

    assert (leaf.serial, leaf.san) == (7, REQUEST.san)
    assert leaf.certificate_chain_pem.endswith(authority.sent_pem)
    assert leaf.issuer_fingerprint == authority.fingerprint


def test_an_order_that_cannot_be_filled_says_so(authority: Authority) -> None:
    """It raises what issuing raises."""
    with pytest.raises(IssuanceError):
        Order(REQUEST, NOW, 0).fill(authority, Profile(), new_key_pair)
