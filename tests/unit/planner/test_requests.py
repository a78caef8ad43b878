"""What the certificates of an instance must say, as it follows from the State."""

from __future__ import annotations

from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.planner import c2c_request, ports_request
from tests.unit.planner import worlds

B, B1 = AppGuid("b"), InstanceGuid("b1")


def test_the_c2c_certificate_has_guid_routes_and_address() -> None:
    """The GUID first, each route and its indexed name, and where the instance is reached."""
    state = worlds.route(worlds.route(worlds.story(org="acme", space="dev"), "b", "z"), "b", "api")

    request = c2c_request(state, state.apps[B], state.instances[B1])

    assert request.san.dns == (
        "b1",
        "1.api.apps.internal",
        "1.z.apps.internal",
        "api.apps.internal",
        "z.apps.internal",
    )
    assert request.san.ips == ("10.0.1.2",)
    assert (request.app_guid, request.org, request.space) == ("b", "acme", "dev")


def test_an_instance_without_routes_has_a_certificate_all_the_same() -> None:
    """Its GUID is the only name then."""
    state = worlds.story()

    assert c2c_request(state, state.apps[B], state.instances[B1]).san.dns == ("b1",)


def test_an_unmapped_route_lingers_in_the_certificate() -> None:
    """While a resolver may still lead there; a route that was mapped again is there once."""
    state = worlds.route(worlds.story(), "b", "api")
    app, instance = state.apps[B], state.instances[B1]

    lingering = (Hostname("old.apps.internal"), Hostname("api.apps.internal"))
    request = c2c_request(state, app, instance, lingering)

    assert request.hostnames == ("api.apps.internal", "old.apps.internal")
    assert request != c2c_request(state, app, instance)


def test_the_certificate_of_the_ports_is_no_identity() -> None:
    """GUID and address, and no SPIFFE id; a route that comes or goes does not concern it."""
    state = worlds.route(worlds.story(org="acme", space="dev"), "b", "api")

    request = ports_request(state.apps[B], state.instances[B1])

    assert request.san.dns == ("b1",)
    assert request.san.ips == ("10.0.1.2",)
    assert request.san.uris == ()
    assert (request.org, request.space) == ("acme", "dev")
