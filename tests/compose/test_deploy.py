"""What README and docs/deploy.md give people to copy does what it says."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.conftest import STACKS
from tests.compose.pods import write_compose_file
from tests.compose.stack import ROOT, Stack, run, until

IMAGES = {
    "c2c-control-plane": "c2c-test/control-plane",
    "c2c-sidecar": "c2c-test/sidecar",
    # As process 1 it would not hear that it is told to end.
    "shop": "c2c-test/app\n    init: true",
}
IN_PODS = {
    "registry.example/c2c-control-plane:1": "c2c-test/control-plane",
    "registry.example/c2c-sidecar:1": "c2c-test/sidecar",
    "registry.example/shop:1": "c2c-test/app",
}
URL = "https://shop.apps.internal:61443"


def _block(document: str, mark: str) -> str:
    """Return the code that follows a mark."""
    text = (ROOT / document).read_text()
    found = re.search(rf"<!-- tests/compose {mark} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{document} has no code that is marked: {mark}"
    return found[1]


def _copy(built: Stack, text: str, directory: Path, **images: str) -> Stack:
    """Return a stack of this compose file, with the images under test."""
    names = {**IMAGES, **images}
    file = directory / "docker-compose.yml"
    file.write_text(re.sub(r"image: (\S+)", lambda each: f"image: {names[each[1]]}", text))
    return Stack(f"{built.project}-copied", built.command, (file,))


@pytest.fixture(params=["README.md", "docs/deploy.md"])
def copied(request: pytest.FixtureRequest, built: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Return a stack of the compose file in a document."""
    made = _copy(built, _block(request.param, "runs this"), tmp_path)
    request.config.stash[STACKS].append(made)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def replicas(request: pytest.FixtureRequest, built: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Return a stack in which one container has app and sidecar, built as the document says."""
    image = f"c2c-test-shop-{os.getpid()}"
    dockerfile = _block("docs/deploy.md", "builds this")
    (tmp_path / "Dockerfile").write_text(dockerfile.replace("c2c-sidecar", IMAGES["c2c-sidecar"]))
    shutil.copy(ROOT / "control_plane" / "demo" / "hello.py", tmp_path / "app.py")
    run("docker", "build", "--tag", image, str(tmp_path))

    control_plane, _, _ = _block("docs/deploy.md", "runs this").partition("\n  shop:\n")
    service = _block("docs/deploy.md", "runs this too")
    text = f"{control_plane}\n{service}\nvolumes:\n  control-plane:\n"
    made = _copy(built, text, tmp_path, shop=image)
    request.config.stash[STACKS].append(made)
    try:
        yield made
    finally:
        made.down()
        run("docker", "image", "rm", image)


@pytest.fixture
def pods(request: pytest.FixtureRequest, built: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Return a stack of both pods for Kubernetes, as a kubelet would run them."""
    file = tmp_path / "docker-compose.yml"
    made = Stack(f"{built.project}-pods", built.command, (file,))
    request.config.stash[STACKS].append(made)
    control_plane = _block("docs/deploy.md", "plays the kubelet with this")
    write_compose_file(file, control_plane, IN_PODS)
    try:
        made.compose("up", "--detach")
        until(lambda: _c2c_answers(made), what="the control plane answers")
        tickets = _invite(made, "--uses", "1000", "--ttl", "30d")
        secret = {f"C2C_SIDECAR_{name.upper()}": tickets[name] for name in ("token", "fingerprint")}
        address = made.container("c2c-pod").address
        shop = _block("docs/deploy.md", "plays the kubelet with this too")
        manifests = f"{control_plane}\n---\n{shop}"
        write_compose_file(file, manifests, IN_PODS, {"shop-join-token": secret}, {"c2c": address})
        made.compose("up", "--detach", "--no-recreate")
        yield made
    finally:
        made.down()


def _c2c_answers(stack: Stack) -> str:
    return stack.container("control-plane").exec("c2c", "apps", "--output", "json", check=False)


def test_an_app_of_ones_own_is_served(copied: Stack) -> None:
    """Step by step as in the document; and a second start needs no token."""
    copied.compose("up", "--detach", variables=_join(copied))
    assert _greeting(copied) == "hello from app"
    before = copied.instances()

    copied.compose("up", "--detach", "--force-recreate", "shop", "shop-sidecar")

    assert _greeting(copied) == "hello from app"
    assert set(copied.instances().values()) == set(before.values())


def test_replicas_of_an_app_of_ones_own_are_served(replicas: Stack) -> None:
    """One service of three containers, each with app and sidecar in it, joins with one token."""
    variables = _join(replicas, "--uses", "100", "--ttl", "30d")

    replicas.compose("up", "--detach", "--scale", "shop=3", variables=variables)

    until(lambda: len(replicas.instances()) == 3, what="three instances are connected")
    # Where a sidecar starts the app, nothing is set for whoever comes in by exec.
    assert _greeting(replicas, "--cacert", "/c2c/roots.pem") == "hello from app"


def test_pods_are_served(pods: Stack) -> None:
    """Volumes of root's, no other user than the manifest's and one resolver are enough for both."""
    assert _greeting(pods) == "hello from app"
    before = pods.instances()

    pods.compose("kill", "sidecar")
    pods.compose("start", "sidecar")

    assert _greeting(pods) == "hello from app"
    assert pods.instances() == before


def _join(stack: Stack, *words: str) -> dict[str, str]:
    """Set up an app that may call itself, and return the variables that let it join."""
    stack.compose("up", "--detach", "control-plane")
    stack.until_answered()
    ticket = _invite(stack, *words)
    return {"SHOP_TOKEN": ticket["token"], "C2C_FINGERPRINT": ticket["fingerprint"]}


def _invite(stack: Stack, *words: str) -> dict[str, str]:
    """Set up an app that may call itself, and return a token for it and whom to trust."""
    stack.c2c("create-app", "shop")
    stack.c2c("map-route", "shop", "apps.internal", "--hostname", "shop")
    stack.c2c("add-network-policy", "shop", "shop", "--protocol", "tcp", "--port", "61443")
    [ticket] = stack.c2c_json("join-token", "shop", *words)
    return ticket


def _greeting(stack: Stack, *words: str) -> str:
    """Return what the app says to itself over HTTPS, once it can."""
    app = stack.containers("shop")[0]
    command = ("curl", "--silent", "--fail", *words, URL)
    answer = until(lambda: app.exec(*command, check=False), what=f"{URL} works")
    return answer.partition(",")[0]
