"""Port mappings: the table of Cloud Foundry, and what holds for every app."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.entities import App, AppKey
from control_plane.model.ports import END_OF_PROXY_PORTS, FIRST_PROXY_PORT, port_mappings
from control_plane.names import C2C_PORT, AppGuid, AppName, Port

KEY = AppKey("default", "default", AppName("app"))


def app_on(*ports: int, c2c_port: int | None = None, ssh: bool = False) -> App:
    """Return an app with these ports; 61443 leads where it leads by default."""
    if c2c_port is None and ports:
        c2c_port = 8080 if 8080 in ports else ports[0]
    c2c = None if c2c_port is None else Port(c2c_port)
    return App(AppGuid("guid"), KEY, tuple(Port(port) for port in ports), c2c, ssh=ssh)


def mapped(app: App) -> list[tuple[int, int]]:
    """Return pairs of app port and proxy port, in their order."""
    return [(each.app_port, each.proxy_port) for each in port_mappings(app)]


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (app_on(8080), [(8080, 61001), (8080, 61443)]),
        (app_on(8080, ssh=True), [(8080, 61001), (8080, 61443), (2222, 61002)]),
        (app_on(8080, 2222, ssh=True), [(8080, 61001), (8080, 61443), (2222, 61002)]),
        (app_on(8080, 9090), [(8080, 61001), (8080, 61443), (9090, 61002)]),
        (app_on(9090, 8080), [(9090, 61001), (8080, 61002), (8080, 61443)]),
        # Cloud Foundry has no 61443 here; this app is not left without.
        (app_on(7070, 9090), [(7070, 61001), (7070, 61443), (9090, 61002)]),
        (app_on(7070, 9090, c2c_port=9090), [(7070, 61001), (9090, 61002), (9090, 61443)]),
        (app_on(61001, 9090), [(61001, 61002), (61001, 61443), (9090, 61003)]),
        (app_on(9090, 61002), [(9090, 61001), (9090, 61443), (61002, 61003)]),
        (app_on(8080, 8080), [(8080, 61001), (8080, 61443)]),
    ],
    ids=[
        "only-8080",
        "ssh",
        "ssh-port-named-too",
        "8080-first",
        "8080-last",
        "no-8080",
        "c2c-port-chosen",
        "first-proxy-port-taken-by-the-app",
        "second-proxy-port-taken-by-the-app",
        "a-port-twice",
    ],
)
def test_ports_are_allotted_as_cloud_foundry_does(
    app: App, expected: list[tuple[int, int]]
) -> None:
    """In the order of the app's ports, past each of them and past 61443."""
    assert mapped(app) == expected


def test_61443_is_passed_over() -> None:
    """The 443rd port of an app gets 61444, since 61443 is for container networking."""
    app = app_on(*range(2000, 2444), c2c_port=2000)
    proxies = dict(pair for pair in mapped(app) if pair[1] != C2C_PORT)

    assert proxies[2000 + 441] == 61442
    assert proxies[2000 + 442] == 61444
    assert (2000, 61443) in mapped(app)


def test_an_app_without_container_networking_has_no_61443() -> None:
    """The proxy ports of a Windows app are allotted the same, and none of them is 61443."""
    app = App(AppGuid("guid"), KEY, (Port(8080), Port(9090)), None)

    assert mapped(app) == [(8080, 61001), (9090, 61002)]
    assert not any(each.is_c2c for each in port_mappings(app))


@given(
    ports=st.lists(
        st.one_of(st.integers(1024, 65535), st.integers(61000, 61020), st.just(8080)),
        min_size=1,
        max_size=10,
    ).map(lambda ports: [port for port in ports if port != C2C_PORT] or [8080]),
    ssh=st.booleans(),
)
def test_mappings_never_collide(ports: list[int], ssh: bool) -> None:  # noqa: FBT001 - drawn
    """Every port has its own proxy port, in range and no port of the app; 61443 is there once."""
    app = app_on(*ports, ssh=ssh)
    mappings = port_mappings(app)
    proxies = [each.proxy_port for each in mappings]
    own = {*ports, 2222} if ssh else {*ports}

    assert len(set(proxies)) == len(proxies)
    assert not own & set(proxies)
    assert all(FIRST_PROXY_PORT <= port < END_OF_PROXY_PORTS for port in proxies)
    assert [each.app_port for each in mappings if not each.is_c2c] == list(
        dict.fromkeys([*ports, 2222] if ssh else ports)
    )
    assert [each.app_port for each in mappings if each.is_c2c] == [app.c2c_port]
