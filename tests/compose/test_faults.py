"""What goes wrong around the apps, while they go on talking."""

from __future__ import annotations

import time

from tests.compose.stack import ROUTE, Container, Stack, run, until
from tests.compose.traffic import requests_from

A_WHILE = 4.0
"""Seconds without a control plane, or without a network."""


def _map(stack: Stack, hostname: str, command: str = "map-route") -> None:
    """Map a route, or unmap it, and wait until every certificate says so."""
    words = ("app-b", "apps.internal", "--hostname", hostname, "--wait", "served")
    stack.c2c(command, *words, "--timeout", "40s")


def test_the_control_plane_is_killed_and_comes_back(stack: Stack) -> None:
    """After kill -9 traffic goes on, certificates stay as they are, and changes work again."""
    control_plane, before = stack.container("control-plane"), stack.instances()

    with requests_from(stack.container("app-a")) as traffic:
        run("docker", "kill", "--signal", "KILL", control_plane.id)
        time.sleep(A_WHILE)
        run("docker", "start", control_plane.id)
        stack.until_answered()
        until(lambda: stack.instances() == before, what="every instance is back as it was")
        time.sleep(A_WHILE)

    assert not traffic.failures
    assert traffic.sent > 20
    assert [len(serials) for serials in traffic.serials.values()] == [1, 1]
    _map(stack, "after-kill")
    _map(stack, "after-kill", "unmap-route")


def test_the_control_plane_stands_still(stack: Stack) -> None:
    """While the control plane is paused traffic goes on; resumed, it does what it is asked."""
    control_plane = stack.container("control-plane")

    with requests_from(stack.container("app-a")) as traffic:
        run("docker", "pause", control_plane.id)
        time.sleep(A_WHILE)
        run("docker", "unpause", control_plane.id)
        _map(stack, "after-pause")
        _map(stack, "after-pause", "unmap-route")

    assert not traffic.failures
    assert traffic.sent > 20


def test_a_replica_loses_its_network_for_a_while(stack: Stack) -> None:
    """A replica that was cut off catches up by itself; the other one never notices."""
    cut, other = stack.containers("app-b")
    app_a, cut_off, healthy = stack.container("app-a"), cut.address, other.address
    started = cut.stats("server.uptime")

    with requests_from(app_a) as traffic:
        cut.set_link("down")
        try:
            stack.c2c("map-route", "app-b", "apps.internal", "--hostname", "cut")
            until(lambda: _shows(app_a, healthy, "cut"), what="the other replica has the route")
            time.sleep(A_WHILE)
        finally:
            cut.set_link("up")
        until(lambda: _shows(app_a, cut_off, "cut"), what="the replica has caught up")
        healed = time.time()
        time.sleep(A_WHILE)

    assert {each.address for each in traffic.failures} <= {cut_off}
    assert not [each for each in traffic.failures if each.at > healed]
    assert traffic.answered.keys() == {cut_off, healthy}
    assert cut.stats("server.uptime")["server.uptime"] >= started["server.uptime"]
    _map(stack, "cut", "unmap-route")


def _shows(app: Container, address: str, hostname: str) -> bool:
    """Tell whether a replica's certificate has a route."""
    return f"{hostname}.apps.internal" in app.python("certificate.py", address, ROUTE).splitlines()


def test_everything_is_restarted(stack: Stack) -> None:
    """After ``compose restart`` each instance is who it was: identities outlive processes."""
    before = stack.identities()

    stack.compose("restart")
    until(lambda: stack.identities() == before, what="every instance is back as it was")
    # Who stopped has said so and was let in no more, which every replica has to hear of again.
    stack.until_reached()

    with requests_from(stack.container("app-a")) as traffic:
        time.sleep(A_WHILE)
    assert not traffic.failures
    assert traffic.sent > 20


def test_an_app_is_restarted_without_its_sidecar(stack: Stack) -> None:
    """A restarted app has a new network namespace; its sidecar ends and is started into that."""
    app_a, before = stack.container("app-a"), stack.identities()

    run("docker", "restart", "--time", "5", app_a.id)
    until(lambda: stack.resolve(ROUTE), what="the sidecar answers again")
    until(lambda: stack.identities() == before, what="every instance is back as it was")
    stack.until_reached()

    with requests_from(app_a) as traffic:
        time.sleep(A_WHILE)
    assert not traffic.failures
    assert traffic.sent > 20
