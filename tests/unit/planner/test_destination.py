"""What people mean when they name whom to reach."""

from __future__ import annotations

import pytest

from control_plane.errors import InvalidArgument, NotFound
from control_plane.model.apps import create_app
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, Hostname
from control_plane.planner.destination import Destination, destinations
from tests.unit.planner import worlds


def world() -> State:
    """Return the announcement's world with a route, and an app whose name looks like another's."""
    state = worlds.route(worlds.story(), "b", "shop")
    state = create_app(state, "guid-of-mine", AppSpec("My.App")).state
    return worlds.instance(worlds.app(state, "c", space="elsewhere"), "c0", "fd00::1")


def meant(text: str, space: str = "") -> tuple[Destination, ...]:
    """Return who is meant in that world."""
    return destinations(world(), text, "", space)


def only(text: str, space: str = "") -> tuple[str, Hostname | None, int | None, Address | None]:
    """Return the one that is meant, the app by its name; "" for none."""
    (found,) = meant(text, space)
    name = "" if found.app is None else found.app.key.name
    return name, found.route, found.index, found.address


@pytest.mark.parametrize(
    "text",
    [
        "shop.apps.internal",
        "Shop.Apps.Internal.",
        "shop.apps.internal:61443",
        "shop.apps.internal/cart",
        "https://shop.apps.internal",
        "https://shop.apps.internal:61443/cart?of=me#top",
        "http://me@shop.apps.internal/",
    ],
)
def test_of_a_url_the_host_counts(text: str) -> None:
    """Whatever is pasted from a browser means the app that has the route."""
    assert only(text) == ("b", "shop.apps.internal", None, None)


def test_an_app_is_meant_by_its_name_or_guid() -> None:
    """Which of its routes is used is left open; a name keeps its letter case, and may have dots."""
    assert only("b") == ("b", None, None, None)
    assert only("https://b:61443") == ("b", None, None, None)
    assert only("My.App") == ("My.App", None, None, None)
    assert only("c", space="elsewhere") == only("c") == ("c", None, None, None)


def test_one_instance_is_meant_by_its_index() -> None:
    """As tables call it, and as its own name does."""
    assert only("b/1") == ("b", None, 1, None)
    assert only("1.shop.apps.internal") == ("b", "shop.apps.internal", 1, None)
    assert only("https://1.shop.apps.internal:61443") == ("b", "shop.apps.internal", 1, None)
    assert only("7.shop.apps.internal") == ("b", "shop.apps.internal", 7, None)


def test_a_route_wins_over_the_name_of_an_instance() -> None:
    """A route may begin with a number itself."""
    state = worlds.route(worlds.route(worlds.story(), "b", "shop"), "a", "0")

    (found,) = destinations(state, "0.apps.internal", "", "")
    assert (found.app, found.index) == (state.apps[AppGuid("a")], None)


def test_all_apps_of_a_route_are_meant() -> None:
    """A route that two apps share leads to both."""
    state = worlds.route(worlds.route(worlds.story(), "b", "shop"), "a", "shop")

    apps = [
        each.app.key.name for each in destinations(state, "shop.apps.internal", "", "") if each.app
    ]
    assert apps == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["fd00::1", "[fd00::1]", "[fd00::1]:61443", "https://[fd00:0::1]/x"]
)
def test_an_address_of_the_sixth_version(text: str) -> None:
    """With brackets or without, in whatever form."""
    assert only(text) == ("c", "", 0, "fd00::1")


def test_an_address_means_the_instance_that_has_it() -> None:
    """It is no name, so there is no route; nobody may have it."""
    assert only("10.0.1.2") == ("b", "", 1, "10.0.1.2")
    assert only("https://10.0.1.2:61443/") == ("b", "", 1, "10.0.1.2")
    assert only("10.9.9.9") == ("", "", None, "10.9.9.9")
    with pytest.raises(InvalidArgument, match="an instance cannot have"):
        meant("0.0.0.0")


def test_what_could_be_a_route_is_nobodys() -> None:
    """It has a dot, and no app is called like that."""
    assert only("https://nobody.apps.internal/x") == ("", "nobody.apps.internal", None, None)
    assert only("0.nobody.apps.internal") == ("", "0.nobody.apps.internal", None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nobody", "app 'nobody' not found"),
        ("nobody/0", "app 'nobody' not found"),
        ("b/7", "app 'b' has no instance 7: 'c2c instances b' lists them"),
        ("b/x", "app 'b' has no instance x: 'c2c instances b' lists them"),
        (f"b/{10**30}", f"app 'b' has no instance {10**30}: "),
        ("[", "app '\\[' not found"),
    ],
)
def test_what_is_nothing_at_all_is_refused(text: str, sentence: str) -> None:
    """An app that does not exist is told apart from an instance that it does not have."""
    with pytest.raises(NotFound, match=sentence) as refused:
        meant(text)
    assert refused.value.field == "destination"


def test_no_destination_is_refused() -> None:
    """Nothing is not as much as a URL without a host, of which it is said what is missing."""
    for text, sentence in (
        ("", "destination missing"),
        (
            "https://",
            "destination must be an app, an instance or a route, and has no host: 'https://'",
        ),
    ):
        with pytest.raises(InvalidArgument) as refused:
            meant(text)
        assert (str(refused.value), refused.value.field) == (sentence, "destination")
