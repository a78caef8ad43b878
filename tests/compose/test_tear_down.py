"""The end of a stack."""

from __future__ import annotations

import json
from pathlib import Path

from tests.compose.stack import Stack, run

SIGKILLED = 137


def test_what_is_kept_of_a_failure(stack: Stack, tmp_path: Path) -> None:
    """Logs and state of every container are kept, and Envoy's statistics of those that have one."""
    stack.keep_evidence(tmp_path)

    kept = {each.name: each.read_text() for each in tmp_path.iterdir()}
    for each in stack.containers():
        assert json.loads(kept[f"{each.name}.state.json"])["Status"]
        assert f"{each.name}.log" in kept
    for each in (*stack.containers("app-b"), stack.container("app-a-sidecar")):
        assert "server.live: 1\n" in kept[f"{each.name}.stats"]
        assert "envoy.started" in kept[f"{each.name}.log"]
    assert "server.started" in kept[f"{stack.container('control-plane').name}.log"]
    assert "PRIVATE KEY" not in "".join(kept.values())


def test_down_is_clean(stack: Stack) -> None:
    """Every container ends by itself when it is told to, and ``down`` leaves nothing behind."""
    containers = stack.containers()
    label = f"label=com.docker.compose.project={stack.project}"

    stack.compose("stop")
    states = {each.name: each.inspect()["State"] for each in containers}
    stack.down()

    assert not [name for name, state in states.items() if state["ExitCode"] == SIGKILLED]
    assert not [name for name, state in states.items() if state["Running"]]
    for kind in ("container", "network", "volume"):
        every = ("--all",) if kind == "container" else ()
        assert not run("docker", kind, "ls", *every, "--quiet", "--filter", label)
