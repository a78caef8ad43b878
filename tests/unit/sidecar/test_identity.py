"""What an instance accepts as its identity."""

from __future__ import annotations

from datetime import timedelta

import pytest

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    OperatorRequest,
    Profile,
    ServerRequest,
    issue,
    new_key_pair,
)
from control_plane.ca.request import Request
from control_plane.errors import InvalidArgument
from control_plane.sidecar.identity import hold
from tests.unit.sidecar.members import (
    ADDRESS,
    APP_GUID,
    GUID,
    NOON,
    authority,
    credentials,
    identity_chain,
)


@pytest.fixture(scope="module")
def ca() -> Authority:
    """Return a CA."""
    return authority()


def test_an_identity_says_who_it_is(ca: Authority) -> None:
    """Everything that the sidecar needs to know is in the certificate."""
    held = credentials(ca).identity

    assert (held.instance_guid, held.app_guid, held.address) == (GUID, APP_GUID, ADDRESS)
    assert held.server_uri == "spiffe://c2c.internal/control-plane"
    assert held.is_valid(NOON)
    assert not held.is_valid(held.not_after)
    assert not held.is_valid(held.not_before - timedelta(seconds=1))


def test_it_is_renewed_around_half_of_its_life(ca: Authority) -> None:
    """A tenth of that to either side, so that instances do not renew together."""
    held = credentials(ca).identity
    half = held.not_before + (held.not_after - held.not_before) / 2

    assert abs(held.renew_at - half) <= (held.not_after - held.not_before) / 20


def test_the_key_does_not_show_itself(ca: Authority) -> None:
    """Neither the key nor the chain is in what a log would show."""
    assert "BEGIN" not in repr(credentials(ca))


def test_a_certificate_for_another_key_is_refused(ca: Authority) -> None:
    """What the control plane sends is of no use, or somebody else's."""
    with pytest.raises(InvalidArgument, match="identity certificate is for another key than ours"):
        hold(identity_chain(ca, new_key_pair().public), new_key_pair())


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (
            C2CRequest(
                instance_guid=GUID,
                app_guid=APP_GUID,
                org="acme",
                space="dev",
                hostnames=("app-b.apps.internal",),
                index=0,
                address=ADDRESS,
            ),
            "needs one SPIFFE id and one address, and has 0 and 1",
        ),
        (OperatorRequest(DEFAULT_TRUST_DOMAIN, "alice"), "has 1 and 0"),
        (
            ServerRequest(DEFAULT_TRUST_DOMAIN, ("localhost",), ("127.0.0.1",)),
            "identity certificate is not an instance's",
        ),
    ],
    ids=["an app's", "an operator's", "the control plane's"],
)
def test_a_certificate_of_another_kind_is_refused(
    ca: Authority, request_: Request, rule: str
) -> None:
    """Our own CA signs other certificates, none of which is an identity."""
    key = new_key_pair()
    leaf = issue(ca, Profile(), request_, key=key.public, now=NOON, serial=1)

    with pytest.raises(InvalidArgument, match=rule):
        hold(leaf.certificate_chain_pem, key)
