"""Waiting for a change to arrive: how far, how long, and who was behind."""

from __future__ import annotations

import re

import pytest

from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.progress import Behind, Stage
from tests.api.world import ControlPlane
from tests.unit.cli.running import Run, run_c2c

B = AppGuid("guid-b")
MAP = ("map-route", "app-b", "apps.internal", "--hostname", "app-b")
UNMAP = ("unmap-route", "app-b", "apps.internal", "--hostname", "app-b")
ADD = ("add-network-policy", "app-b", "app-b", "--protocol", "tcp", "--port", "61443")
REMOVE = ("remove-network-policy", *ADD[1:])


@pytest.mark.parametrize(
    ("command", "done"),
    [
        pytest.param(MAP, "The route is mapped", id="map-route"),
        pytest.param(UNMAP, "The route is unmapped", id="unmap-route"),
        pytest.param(ADD, "The policy exists", id="add-network-policy"),
        pytest.param(REMOVE, "The policy is gone", id="remove-network-policy"),
    ],
)
def test_who_is_behind_is_named_with_the_reason(
    c2c: Run, world: ControlPlane, command: tuple[str, ...], done: str
) -> None:
    """A change that not every instance followed is made all the same, and the command fails."""
    c2c("create-app", "app-b", "--guid", B)
    c2c(*MAP)
    world.progress.behind = (
        Behind(InstanceGuid("i-1"), B, 1, Stage.COMMITTED, "NACK:\n\x1b[2Jbad"),
        Behind(InstanceGuid("i-2"), B, 2, Stage.ACKED, ""),
    )
    ran = c2c(*command, "--wait", "served", "--timeout", "1500ms")

    assert ran.code == 1
    assert ran.out.endswith("\nFAILED\n")
    assert ran.err == (
        f"{done}, but it is not served everywhere after 1s500ms: "
        r"app-b/1: NACK:\n\x1b[2Jbad; app-b/2 (see 'c2c status app-b')" + "\n"
    )
    assert world.progress.asked[-1][1:] == (Stage.SERVED, 1.5)


def test_a_wait_that_a_stop_ended_says_so(c2c: Run, world: ControlPlane) -> None:
    """It was shorter than what was asked for, and no server answers before the next start."""
    c2c("create-app", "app-b", "--guid", B)
    world.progress.behind = tuple(
        Behind(InstanceGuid(f"i-{number}"), B, number, Stage.COMMITTED, "it stops", stopping=True)
        for number in range(2)
    )
    ran = c2c(*MAP, "--wait", "served", "--timeout", "1m")

    assert ran.code == 1
    assert re.sub(r"after \d\.\ds", "after 0.1s", ran.err) == (
        "The route is mapped, but the control plane stopped after 0.1s, and it was not served "
        "everywhere yet: app-b/0; app-b/1 (once it runs again, 'c2c status app-b' shows more)\n"
    )


def test_of_many_that_are_behind_some_are_named(c2c: Run, world: ControlPlane) -> None:
    """A sentence stays readable when a thousand instances are behind."""
    c2c("create-app", "app-b", "--guid", B)
    world.progress.behind = tuple(
        Behind(InstanceGuid(f"i-{number}"), B, number, Stage.COMMITTED, "") for number in range(8)
    )
    ran = c2c(*MAP, "--wait", "acked")

    assert ran.err.endswith("; app-b/4; 3 more (see 'c2c status app-b')\n")
    assert "after 30s: app-b/0; " in ran.err


def test_where_to_look_is_a_command_that_works(c2c: Run, world: ControlPlane) -> None:
    """It names the space of the app, and all apps if those who are behind are of several."""
    c2c("create-app", "app-b", "--guid", B, "-s", "s2", "-o", "o2")
    c2c("create-app", "app-a", "--guid", "guid-a")
    b1 = Behind(InstanceGuid("i-1"), B, 1, Stage.COMMITTED, "slow")
    a0 = Behind(InstanceGuid("i-0"), AppGuid("guid-a"), 0, Stage.COMMITTED, "slow")
    command = (*MAP, "-s", "s2", "-o", "o2", "--wait", "acked")

    world.progress.behind = (b1,)
    assert c2c(*command).err.endswith(": app-b/1: slow (see 'c2c status app-b -s s2 -o o2')\n")
    world.progress.behind = (b1, a0)
    assert c2c(*command).err.endswith(
        ": app-a/0 in org default / space default: slow; app-b/1 in org o2 / space s2: slow "
        "(see 'c2c status --all')\n"
    )


def test_where_to_look_is_the_same_server(world: ControlPlane) -> None:
    """An option that says which it is holds for whatever is printed to go on with."""
    place = ("--data-dir", str(world.socket.parent))
    options = " ".join(place)
    for name in ("app-a", "app-b"):
        run_c2c("create-app", name, "--guid", f"guid-{name[-1]}", *place)
    a0, b1 = (
        Behind(InstanceGuid(f"i-{number}"), AppGuid(guid), number, Stage.COMMITTED, "slow")
        for number, guid in enumerate(("guid-a", "guid-b"))
    )

    world.progress.behind = (b1,)
    ran = run_c2c(*place, *MAP, "--wait", "acked")
    assert ran.err.endswith(f"(see 'c2c status app-b {options}')\n")
    world.progress.behind = (a0, b1)
    ran = run_c2c(*MAP, "--wait", "acked", *place)
    assert ran.err.endswith(f"(see 'c2c status --all {options}')\n")
    ran = run_c2c("bootstrap", "app-b/7", *place)
    assert ran.err.endswith(f": 'c2c instances app-b {options}' lists them\n")


def test_everybody_followed(c2c: Run, world: ControlPlane) -> None:
    """Then the outcome is OK and nothing else is said."""
    c2c("create-app", "app-b", "--guid", B)
    ran = c2c(*MAP, "--wait", "served", "--timeout", "5s")

    assert (ran.code, ran.out.splitlines()[1:], ran.err) == (0, ["OK"], "")
    assert world.progress.asked[-1][1:] == (Stage.SERVED, 5.0)


def test_by_default_nothing_is_waited_for(c2c: Run, world: ControlPlane) -> None:
    """Without --wait, a durable change is enough."""
    c2c("create-app", "app-b", "--guid", B)
    world.progress.behind = (Behind(InstanceGuid("i-1"), B, 1, Stage.COMMITTED, ""),)

    assert c2c(*MAP).code == 0


def test_how_long_may_be_said_whatever_is_waited_for(c2c: Run) -> None:
    """A script that is told how far a change has to get says both in any case."""
    c2c("create-app", "app-b")

    assert c2c(*MAP, "--wait", "committed", "--timeout", "5s").code == 0
