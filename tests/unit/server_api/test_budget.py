"""A route that would make a certificate too large for TLS clients is refused when it is mapped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.ca import Authority, Profile, create_authority, new_key_pair
from control_plane.ca.size import handshake_bytes
from control_plane.errors import FailedPrecondition
from control_plane.model.apps import create_app
from control_plane.model.instances import register_instance
from control_plane.model.routes import map_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, Domain
from control_plane.planner import c2c_request
from control_plane.server.budget import CertificateBudget

B = AppGuid("guid-b")
APPS_INTERNAL = Domain("apps.internal")
PROFILE = Profile(max_chain_bytes=4_000)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Make a CA."""
    return create_authority(
        "test CA",
        now=datetime(2026, 1, 1, tzinfo=UTC),
        lifetime=timedelta(days=365),
        key=new_key_pair(),
        serial=1,
    )


def with_routes(count: int) -> State:
    """Return a State with one app that has this many routes."""
    state = create_app(State(), B, AppSpec("app-b")).state
    for number in range(count):
        state = map_route(state, B, f"route-{number:04}", APPS_INTERNAL, {APPS_INTERNAL}).state
    return state


def fits(budget: CertificateBudget, count: int) -> bool:
    """Tell whether an app may have this many routes."""
    try:
        budget.check(with_routes(count), B, field="hostname")
    except FailedPrecondition:
        return False
    return True


def test_what_is_accepted_can_be_issued_for_every_instance(authority: Authority) -> None:
    """At the last accepted route, the certificates of an app's instances are within the bound."""
    budget = CertificateBudget(lambda: (authority,), PROFILE)
    most = next(count for count in range(1000) if not fits(budget, count + 1))
    state = with_routes(most)
    for number, address in enumerate(["10.255.0.4", "2001:db8:1:2:3:4:5:6"]):
        state = register_instance(state, f"{number}{'g' * 62}", B, address).state

    sizes = [
        handshake_bytes(authority, c2c_request(state, state.apps[B], instance))
        for instance in state.instances_of(B)
    ]
    assert most > 10
    assert max(sizes) <= PROFILE.max_chain_bytes


def test_the_refusal_says_what_to_do(authority: Authority) -> None:
    """The sentence has the app, both sizes and the way out, and names the field that it is told."""
    with pytest.raises(FailedPrecondition) as caught:
        CertificateBudget(lambda: (authority,), PROFILE).check(
            with_routes(200), B, field="hostname"
        )

    assert caught.value.field == "hostname"
    assert caught.value.rule.startswith("with this the certificates of app 'app-b' would take ")
    assert caught.value.rule.endswith(
        " bytes of the TLS handshake, more than the 4000 that every client takes: "
        "map fewer or shorter routes to the app"
    )


def test_an_index_above_the_usual_counts(authority: Authority) -> None:
    """Per-index names grow with the index, so an app of a thousand instances is measured anew."""
    budget = CertificateBudget(lambda: (authority,), PROFILE)
    most = next(count for count in range(1000) if not fits(budget, count + 1))
    state = with_routes(most)
    for number in range(1001):
        address = f"10.255.{number // 250}.{number % 250 + 1}"
        state = register_instance(state, f"inst-{number}", B, address).state

    with pytest.raises(FailedPrecondition):
        budget.check(state, B, field="app")
