"""Internal routes: mapped once, shared by apps, limited, and whom a mapping concerns."""

from __future__ import annotations

import pytest

from control_plane.errors import InvalidArgument, LimitExceeded, NotFound
from control_plane.model.apps import create_app
from control_plane.model.entities import RouteMapping
from control_plane.model.routes import map_route, unmap_route
from control_plane.model.spec import AppSpec
from control_plane.names import AppGuid, Hostname
from tests.unit.model.world import DOMAINS, A, B, C, D, allow, mapping, world

NAME = Hostname("shop.apps.internal")


def test_a_mapped_route_resolves_to_the_app() -> None:
    """Mapping puts the route's full name, in lower case, beside the app."""
    decision = map_route(world(), A, "Shop", "Apps.Internal.", DOMAINS)

    assert decision.result.mapping == RouteMapping(NAME, A)
    assert not decision.result.already
    assert decision.state.hostnames_of(A) == (NAME,)
    assert decision.state.apps_of(NAME) == (A,)


def test_mapping_twice_says_so_and_changes_nothing() -> None:
    """The second mapping of the same route is the same mapping."""
    state = mapping(world(), A, "shop").state

    again = mapping(state, A, "SHOP")

    assert again.result.already
    assert again.state is state
    assert not again.change


def test_apps_share_a_route() -> None:
    """A route resolves to every app that it is mapped to, and unmapping one leaves the others."""
    state = mapping(mapping(world(), A, "shop").state, B, "shop").state
    assert state.apps_of(NAME) == (A, B)

    state = unmap_route(state, A, "shop", "apps.internal").state

    assert state.apps_of(NAME) == (B,)
    assert state.hostnames_of(A) == ()


def test_unmapping_what_is_not_mapped_says_so_and_changes_nothing() -> None:
    """Unmapping a route that another app has is no change either."""
    state = mapping(world(), B, "shop").state

    decision = unmap_route(state, A, "shop", "apps.internal")

    assert decision.result.already
    assert decision.state is state


def test_a_route_under_a_former_internal_domain_can_be_unmapped() -> None:
    """Whoever takes a domain out of the settings can still clean up."""
    state = map_route(world(), A, "shop", "mesh.example", DOMAINS).state

    decision = unmap_route(state, A, "shop", "mesh.example")

    assert not decision.result.already
    assert decision.state.hostnames_of(A) == ()


def test_all_internal_domains_are_named_to_who_asks_for_another() -> None:
    """The refusal of a domain lists the ones there are."""
    with pytest.raises(InvalidArgument, match=r"known are: apps\.internal, mesh\.example$"):
        map_route(world(), A, "shop", "example.com", DOMAINS)


def test_a_mapping_concerns_the_app_and_who_may_connect_to_it() -> None:
    """The app's certificate and the name tables of its sources change, nobody else's resources."""
    state = allow(allow(world(), A, B), B, C)

    mapped = mapping(state, B, "shop")
    unmapped = unmap_route(mapped.state, B, "shop", "apps.internal")

    assert mapped.change.apps == unmapped.change.apps == {A, B}
    assert D not in mapped.change.apps


def test_a_route_has_at_most_100_destinations() -> None:
    """The 101st app is refused, and room is made by unmapping one."""
    state = world("a")
    for number in range(101):
        state = create_app(state, f"app-{number}", AppSpec(f"app-{number}")).state
    for number in range(100):
        state = mapping(state, AppGuid(f"app-{number}"), "shop").state

    with pytest.raises(LimitExceeded) as caught:
        mapping(state, AppGuid("app-100"), "shop")

    assert caught.value.rule == (
        "a route can be mapped to at most 100 destinations: 'shop.apps.internal'"
    )
    assert caught.value.field == "hostname"
    assert mapping(state, AppGuid("app-99"), "shop").result.already
    state = unmap_route(state, AppGuid("app-7"), "shop", "apps.internal").state
    assert not mapping(state, AppGuid("app-100"), "shop").result.already


def test_a_route_of_an_app_that_is_gone_is_refused() -> None:
    """An app may be deleted between being found and being mapped or unmapped."""
    with pytest.raises(NotFound, match="app 'guid-a' not found"):
        mapping(world("b"), A, "shop")
    with pytest.raises(NotFound, match="app 'guid-a' not found"):
        unmap_route(world("b"), A, "shop", "apps.internal")
