"""What is different where a person sits: colours, progress, and a question before a deletion."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.cli.output import printable
from control_plane.cli.tables import cell, print_table
from tests.api.world import ControlPlane
from tests.unit.cli.conftest import run_c2c

C2C = str(Path(sys.executable).with_name("c2c"))


def on_terminal(world: ControlPlane, *words: str, answer: str = "") -> tuple[int, str]:
    """Run a command in a terminal of its own, type an answer, and return what was on screen."""
    ours, theirs = pty.openpty()
    environ = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "C2C_DATA_DIR": str(world.socket.parent)}
    with subprocess.Popen(
        [C2C, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        screen = b""
        while True:
            try:
                screen += os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
        os.close(ours)
    return process.returncode, screen.decode()


def test_names_and_outcomes_have_colours(world: ControlPlane) -> None:
    """Names stand out in cyan, OK in green and FAILED in red, as in ``cf``."""
    code, screen = on_terminal(world, "create-app", "app-b")
    assert code == 0
    assert "Creating app \x1b[36m\x1b[1mapp-b\x1b[0m in org" in screen
    assert "\x1b[32m\x1b[1mOK\x1b[0m" in screen

    code, screen = on_terminal(world, "app", "pineapple")
    assert code == 1
    assert "\x1b[31m\x1b[1mFAILED\x1b[0m" in screen
    assert "\x1b[" not in on_terminal(world, "version")[1]


def test_progress_is_shown_while_a_person_waits(world: ControlPlane) -> None:
    """On a terminal one sees what is waited for; a pipe gets none of it."""
    run_c2c("create-app", "app-b", C2C_DATA_DIR=str(world.socket.parent))
    command = ("map-route", "app-b", "apps.internal", "--hostname", "app-b", "--wait", "served")

    assert "Waiting until app-b.apps.internal is served" in on_terminal(world, *command)[1]
    ran = run_c2c(*command, C2C_DATA_DIR=str(world.socket.parent))
    assert ran.err == ""


@pytest.mark.parametrize(
    ("words", "answer", "code", "left"),
    [
        (("delete-app", "app-b"), "n\n", 130, 1),
        (("delete-app", "app-b"), "y\n", 0, 0),
        (("delete-app", "app-b", "-f"), "", 0, 0),
    ],
    ids=["no", "yes", "forced"],
)
def test_a_person_is_asked_before_an_app_is_deleted(
    world: ControlPlane, words: tuple[str, ...], answer: str, code: int, left: int
) -> None:
    """Whoever sits at a terminal is asked, unless they said -f; a script is not."""
    data_dir = {"C2C_DATA_DIR": str(world.socket.parent)}
    run_c2c("create-app", "app-b", **data_dir)
    ended, screen = on_terminal(world, *words, answer=answer)

    assert (ended, "Really delete the app" in screen) == (code, bool(answer))
    assert len(run_c2c("apps", "--output", "json", **data_dir).json()) == left


def test_whoever_stops_reading_gets_no_complaint(world: ControlPlane) -> None:
    """``c2c ... | head`` ends without a traceback when head has had enough."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [C2C, "trust-bundle"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "C2C_DATA_DIR": str(world.socket.parent)},
        check=False,
    )
    os.close(writer)

    assert (ran.returncode, ran.stderr) == (1, b"")


def test_columns_line_up_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide characters count as two, and nothing in a cell can steer the terminal."""
    print_table({"org": ["日本", "a\x1b[2J"], "apps": [["x", "y"], []], "up": [True, False]})

    assert capsys.readouterr().out == (
        "\norg        apps   up\n日本       x, y   yes\na\\x1b[2J          no\n"
    )


def test_text_is_shown_as_it_is_where_it_can_be() -> None:
    """Printable text of any script stays; line ends and escapes become text."""
    assert printable("grün, 日本") == "grün, 日本"
    assert printable("a\nb\u202ec") == r"a\nb\u202ec"
    assert cell(0) == "0"
