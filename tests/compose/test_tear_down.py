"""The end of a stack."""

from __future__ import annotations

from tests.compose.stack import Stack, run

SIGKILLED = 137


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
