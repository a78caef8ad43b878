"""What is known of the types that Envoy knows."""

from __future__ import annotations

import pytest

from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
    AfterNack,
    ResourceType,
    ResourceTypes,
)


def test_responses_leave_in_the_order_of_the_protocol() -> None:
    """O1: each type comes after those that it refers to."""
    types = ResourceTypes.of()
    order = [each.url for each in types.ordered]
    for each in types.ordered:
        assert all(order.index(before) < order.index(each.url) for before in each.after)


def test_types_that_wait_for_each_other_have_no_order() -> None:
    """O1: none of them would ever be sent, so they are no types to serve."""
    one, other = TypeUrl("type.googleapis.com/one"), TypeUrl("type.googleapis.com/other")
    with pytest.raises(ValueError, match="types wait for each other: "):
        ResourceTypes.of([ResourceType(one, after=(other,)), ResourceType(other, after=(one,))])


def test_types_that_come_after_another_are_its_followers() -> None:
    """O1: clusters are withdrawn once listeners and routes let go of them, endpoints with them.

    Listeners name routes, and not the other way round, so they are withdrawn at once.
    """
    types = ResourceTypes.of()
    assert types.followers(LISTENER) == ()
    assert (
        types.followers(CLUSTER)
        == types.followers(ENDPOINT)
        == (
            LISTENER,
            ROUTE,
            SCOPED_ROUTE,
            VIRTUAL_HOST,
        )
    )
    assert types.followers(ROUTE) == (SCOPED_ROUTE, VIRTUAL_HOST)
    assert types.followers(SCOPED_ROUTE) == types.followers(VIRTUAL_HOST) == ()


def test_clusters_listeners_and_scoped_routes_are_complete() -> None:
    """R3: the protocol has the first two complete, Envoy the third too, and no others."""
    complete = {each.url for each in ResourceTypes.of().ordered if each.complete}
    assert complete == {CLUSTER, LISTENER, SCOPED_ROUTE}


def test_type_of_which_a_response_has_nothing_is_refused() -> None:
    """It would be told in one empty response after another."""
    with pytest.raises(ValueError, match="a batch is 1 or more resources, not 0"):
        ResourceTypes.of([ResourceType(SECRET, batch=0)])


def test_refused_secret_is_never_tried_again() -> None:
    """A7: Envoy would ACK it and go on serving the old one; so each has a response of its own."""
    secret = ResourceTypes.of().get(SECRET)
    assert secret.after_nack is AfterNack.WHEN_CHANGED
    assert secret.batch == 1


def test_whatever_envoy_refuses_again_is_tried_again() -> None:
    """A7: all but Secrets and filters, also a type that nobody described."""
    types = ResourceTypes.of()
    never = {each.url for each in types.ordered if each.after_nack is AfterNack.WHEN_CHANGED}
    assert never == {SECRET, EXTENSION_CONFIG}
    assert types.get(RUNTIME).after_nack is AfterNack.AFTER_A_WHILE


def test_type_of_ones_own_has_the_defaults() -> None:
    """R4: nothing is assumed of a type that nobody described."""
    url = TypeUrl("type.googleapis.com/c2c.v1.NameTable")
    assert ResourceTypes.of().get(url) == ResourceType(url)
