"""The announcement's story, told from inside the containers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.compose.stack import ROOT, ROUTE, Container, Stack, run, until
from tests.compose.traffic import requests_from
from tests.installed import GRPCURL

URL = f"https://{ROUTE}:61443"
POLICY = ("app-a", "app-b", "--protocol", "tcp", "--port", "61443")


def _names(app: Container, address: str, host: str) -> list[str]:
    return app.python("certificate.py", address, host).splitlines()


def test_curl_in_app_a_reaches_each_replica_of_app_b(stack: Stack) -> None:
    """The command of the README works as it stands: name, policy and trust are in place."""
    heard: set[str] = set()

    def call() -> bool:
        greeting = stack.compose("exec", "-T", "app-a", "curl", "--silent", "--show-error", URL)
        heard.add(greeting.partition(",")[0])
        return len(heard) == 2

    until(call, what="both replicas answered")

    assert heard == {"hello from app-b/0", "hello from app-b/1"}


def test_nobody_may_talk_until_a_policy_says_so(stack: Stack) -> None:
    """Without the policy the name is unknown and the port closed; with it, both work again."""
    app_a = stack.container("app-a")
    replicas = [each.address for each in stack.containers("app-b")]

    stack.c2c("remove-network-policy", *POLICY, "--wait", "acked")
    try:
        assert not stack.resolve(ROUTE)
        assert [app_a.python("knock.py", each, "61443") for each in replicas] == ["closed"] * 2
    finally:
        stack.c2c("add-network-policy", *POLICY, "--wait", "acked")

    stack.until_resolved(ROUTE, replicas)
    assert app_a.exec("curl", "--silent", "--show-error", URL).startswith("hello from app-b/")


def test_a_certificate_follows_its_routes(stack: Stack) -> None:
    """A route that is mapped resolves and is in the certificates; unmapped, it is in neither."""
    app_a = stack.container("app-a")
    replicas = [each.address for each in stack.containers("app-b")]
    shop = "shop.apps.internal"
    words = ("app-b", "apps.internal", "--hostname", "shop", "--wait", "served")

    stack.compose("exec", "-T", "control-plane", "c2c", "map-route", *words)
    stack.until_resolved(shop, replicas)
    assert all(shop in _names(app_a, each, shop) for each in replicas)

    stack.compose("exec", "-T", "control-plane", "c2c", "unmap-route", *words)
    assert not stack.resolve(shop)
    assert all(shop not in _names(app_a, each, ROUTE) for each in replicas)


def test_certificates_are_rotated_under_load(stack: Stack) -> None:
    """Ten rotations while requests run: none fails, no listener changes, no Envoy restarts."""
    replicas = stack.containers("app-b")
    before = [each.stats("listener_manager.listener_modified") for each in replicas]
    started = [each.inspect()["State"]["StartedAt"] for each in replicas]

    with requests_from(stack.container("app-a")) as traffic:
        for number in range(5):
            words = ("app-b", "apps.internal", "--hostname", f"route-{number}", "--wait", "served")
            stack.c2c("map-route", *words)
            stack.c2c("unmap-route", *words)

    assert not traffic.failures
    assert traffic.sent > 20
    assert all(len(serials) > 5 for serials in traffic.serials.values())
    assert [each.stats("listener_manager.listener_modified") for each in replicas] == before
    assert all(
        each.stats("server.hot_restart_epoch")["server.hot_restart_epoch"] == 0 for each in replicas
    )
    assert [each.inspect()["State"]["StartedAt"] for each in replicas] == started


def test_up_may_be_said_again(stack: Stack) -> None:
    """A second ``up`` changes nothing: same containers, instances, policies and routes."""

    def look() -> list[object]:
        containers = [each for each in stack.containers() if each.service not in {"setup", "ready"}]
        lists = [stack.c2c_json(each) for each in ("routes", "network-policies", "apps")]
        return [containers, stack.instances(), *lists]

    before = look()
    stack.up()

    assert look() == before
    assert stack.container("setup").inspect()["State"]["ExitCode"] == 0


def test_app_a_is_healthy_as_soon_as_it_can_call(stack: Stack) -> None:
    """The check waits: ``up`` fails if app-a is unhealthy just after setup added the policy."""
    app_a = stack.container("app-a")

    def checks() -> list[dict[str, Any]]:
        return list(app_a.inspect()["State"]["Health"]["Log"])

    stack.c2c("remove-network-policy", *POLICY, "--wait", "acked")
    try:
        until(
            lambda: "until curl" in run("docker", "top", app_a.id, "-eo", "pid,args"),
            what="a check waits",
        )
        before = checks()[-1]["End"]
    finally:
        stack.c2c("add-network-policy", *POLICY, "--wait", "acked")

    first = until(lambda: [each for each in checks() if each["End"] > before], what="it ends")[0]
    assert first["ExitCode"] == 0


def test_an_operator_on_the_host_uses_grpcurl(stack: Stack, tmp_path: Path) -> None:
    """From the host, grpcurl lists routes over mTLS; without a certificate it gets no answer."""
    control_plane = stack.container("control-plane")
    deploy = (ROOT / "docs" / "deploy.md").read_text()
    commands = re.search(r"sh -c \\\n +('c2c issue-operator-cert .*\n.*)\n", deploy)
    assert commands
    was = tmp_path.stat()
    run("sh", "-c", f"cd {tmp_path} && docker exec {control_plane.id} sh -c {commands[1]}")
    now = tmp_path.stat()
    [address] = run("docker", "port", control_plane.id, "18003/tcp").splitlines()
    trust = ("-cacert", str(tmp_path / "me-ca.pem"))
    proof = ("-cert", str(tmp_path / "me.pem"), "-key", str(tmp_path / "me.key"))

    listed = run(GRPCURL, *trust, *proof, address, "c2c.v1.RouteService/ListRoutes")
    refused = run(GRPCURL, *trust, "-connect-timeout", "3", address, "list", check=False)

    assert [each["route"] for each in json.loads(listed)["routes"]] == [ROUTE]
    assert not refused
    assert (now.st_mode, now.st_uid) == (was.st_mode, was.st_uid)
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
