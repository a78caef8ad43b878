"""Who can reach what in the network of the containers, and how names are found there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.compose.stack import CLIENTS, ROUTE, Container, Stack, run
from tests.needs import need_command

MUSL = Path(__file__).parents[1] / "dns" / "clients" / "musl.c"


def _stranger(stack: Stack, *arguments: str) -> str:
    """Run a client in a new container on the stack's network, which belongs to no app."""
    program = (CLIENTS / "knock.py").read_text()
    image = stack.container("app-a").inspect()["Image"]
    words = ("--rm", "--network", f"{stack.project}_default", image, "python3", "-c", program)
    return run("docker", "run", *words, *arguments).strip()


def test_the_port_of_an_app_is_closed_for_everybody(stack: Stack) -> None:
    """Nobody reaches 8080 past Envoy: no friend, no neighbour, not the control plane."""
    servers = [*stack.containers("app-b"), stack.container("app-a")]

    for address in (each.address for each in servers):
        assert _stranger(stack, address, "8080") == "refused"
        for client in (*servers, stack.container("control-plane")):
            assert client.python("knock.py", address, "8080") == "refused"


def test_strangers_get_no_byte(stack: Stack) -> None:
    """Whom no policy lets in is closed at once, before TLS; another replica of app-b as well."""
    first, second = stack.containers("app-b")

    assert {_stranger(stack, each.address, "61443") for each in (first, second)} == {"closed"}
    for client in (second, stack.container("control-plane")):
        assert client.python("knock.py", first.address, "61443") == "closed"


def test_the_app_reads_the_trust_store_and_no_key(stack: Stack) -> None:
    """The volume that app-a shares with its sidecar shows it certificates, and no private key."""
    app_a = stack.container("app-a")

    roots = app_a.exec("cat", "/c2c/roots.pem")
    readable = app_a.exec("find", "/c2c", "-type", "f", "-readable").split()

    assert stack.c2c("trust-bundle").strip() in roots
    assert roots.count("BEGIN CERTIFICATE") > 50
    assert sorted(readable) == ["/c2c/ca.pem", "/c2c/roots.p12", "/c2c/roots.pem"]


def test_glibc_finds_names(stack: Stack) -> None:
    """A program with glibc finds every replica, in any letter case, and each by its index."""
    replicas = {each.address for each in stack.containers("app-b")}

    assert stack.resolve(ROUTE) == stack.resolve(ROUTE.upper()) == replicas
    assert stack.resolve(f"0.{ROUTE}") | stack.resolve(f"1.{ROUTE}") == replicas
    assert stack.resolve("control-plane") == {stack.container("control-plane").address}
    assert not stack.resolve("nobody.apps.internal")


@pytest.fixture
def musl(stack: Stack, tmp_path: Path) -> Container:
    """Return app-a with a program that has musl's resolver in it."""
    compiler = need_command("musl-gcc", "musl-tools gcc")
    program = tmp_path / "musl"
    subprocess.run([compiler, "-static", "-O1", "-o", program, MUSL], check=True)
    app_a = stack.container("app-a")
    run("docker", "cp", str(program), f"{app_a.id}:/musl")
    return app_a


def test_musl_finds_names(stack: Stack, musl: Container) -> None:
    """So does one with musl, which asks for both families at once and takes no for an answer."""
    replicas = {each.address for each in stack.containers("app-b")}

    lines = musl.exec(
        "env",
        "RESOLV_CONF=/etc/resolv.conf",
        "/musl",
        ROUTE,
        "control-plane",
        "nobody.apps.internal",
    ).splitlines()

    assert set(lines[0].split()) == replicas
    assert lines[1].split() == [stack.container("control-plane").address]
    assert lines[2].startswith("error: ")
