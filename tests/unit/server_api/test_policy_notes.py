"""A policy that opens nothing is accepted with a note."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.model.entities import App, NetworkPolicy, Transport
from control_plane.model.spec import AppSpec
from control_plane.names import AppGuid, Port
from control_plane.server.api.policy_notes import Opening, policy_note

APP = AppSpec("app-b", ports=(8080, 9090)).parse("guid-b")


def policy(start: int, end: int, transport: Transport = Transport.TCP) -> NetworkPolicy:
    """Return a policy to the app for these ports."""
    return NetworkPolicy(AppGuid("guid-a"), APP.guid, transport, Port(start), Port(end))


@pytest.mark.parametrize(
    ("opened", "unproxied"),
    [
        (policy(61443, 61443), False),
        (policy(61001, 61001), False),
        (policy(1, 65535), False),
        (policy(9000, 9100), True),
        (policy(8080, 8080, Transport.UDP), True),
    ],
    ids=["https", "proxy-port", "every-port", "own-port-in-a-range", "own-udp-port"],
)
def test_a_policy_that_opens_a_port_has_no_note(opened: NetworkPolicy, *, unproxied: bool) -> None:
    """Where Envoy listens on one of the ports there is nothing to say."""
    assert policy_note(opened, APP, Opening(unproxied=unproxied)) == ""


UNPROXIED = "without --unproxied-port-mappings only ports with TLS are open, 61443 for HTTPS"
OPEN_UNPROXIED = "8080, 9090, 61001, 61002, 61443"


@pytest.mark.parametrize(
    ("useless", "unproxied", "note"),
    [
        (
            policy(8080, 8080),
            False,
            f"nothing listens on tcp port 8080 of app app-b: {UNPROXIED}",
        ),
        (
            policy(8080, 8090, Transport.UDP),
            False,
            f"nothing listens on udp ports 8080-8090 of app app-b: {UNPROXIED}",
        ),
        (
            policy(443, 443),
            False,
            "nothing listens on tcp port 443 of app app-b: its tcp ports are: 61001, 61002, 61443",
        ),
        (
            policy(443, 443),
            True,
            f"nothing listens on tcp port 443 of app app-b: its tcp ports are: {OPEN_UNPROXIED}",
        ),
        (
            policy(53, 53, Transport.UDP),
            False,
            "nothing listens on udp port 53 of app app-b: its udp ports are: none",
        ),
        (
            policy(53, 53, Transport.UDP),
            True,
            "nothing listens on udp port 53 of app app-b: its udp ports are: 8080, 9090",
        ),
    ],
    ids=[
        "own-port-behind-envoy",
        "udp-behind-envoy",
        "no-such-port",
        "no-such-port-unproxied",
        "no-udp",
        "no-such-udp-port",
    ],
)
def test_a_policy_that_opens_nothing_says_what_would(
    useless: NetworkPolicy, note: str, *, unproxied: bool
) -> None:
    """The note names the port, the app, and the setting or the ports that would be open."""
    assert policy_note(useless, APP, Opening(unproxied=unproxied)) == note


def test_ssh_counts_as_a_port() -> None:
    """The proxied port of the SSH server beside an app is one that can be opened."""
    with_ssh: App = replace(APP, ssh=True)

    assert policy_note(policy(61003, 61003), APP, Opening()) != ""
    assert policy_note(policy(61003, 61003), with_ssh, Opening()) == ""


def test_where_routers_prove_who_they_are_no_policy_opens_their_ports() -> None:
    """Those from 61001, SSH's too; 61443 is opened by policies as ever."""
    opening = Opening(by_certificate=True)
    with_ssh: App = replace(APP, ssh=True)

    assert policy_note(policy(61001, 61003), with_ssh, opening) == (
        "no policy opens tcp ports 61001-61003 of app app-b: with --router-ca routers connect "
        "there, by their certificates"
    )
    assert policy_note(policy(443, 443), APP, opening) == (
        "nothing listens on tcp port 443 of app app-b: its tcp ports are: 61443"
    )
    assert policy_note(policy(61001, 61443), APP, opening) == ""
