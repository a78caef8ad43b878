"""What is different where a person sits: colours, progress, and a question before a deletion."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios

import pytest

from control_plane.cli.output import printable
from control_plane.cli.tables import cell, print_table
from tests.api.world import ControlPlane
from tests.installed import C2C
from tests.unit.cli.running import Run, run_c2c

DEADLINE = 30.0


def on_terminal(
    world: ControlPlane, *words: str, answer: str = "", columns: int = 0, term: str = "xterm"
) -> tuple[int, str]:
    """Run a command in a terminal of its own, type an answer, and return what was on screen."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environ = {"PATH": "/usr/bin:/bin", "TERM": term, "C2C_DATA_DIR": str(world.socket.parent)}
    with subprocess.Popen(
        [C2C, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        screen = b""
        while select.select([ours], [], [], DEADLINE)[0]:
            try:
                screen += os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
        else:
            process.kill()
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


def test_what_is_waited_for_is_shown_as_it_is(world: ControlPlane) -> None:
    """A name that looks like markup steers neither the terminal nor whoever shows it."""
    on_terminal(world, "create-app", "app-b")
    words = ("map-route", "app-b", "apps.internal", "--wait", "served", "--hostname", "[/x]\x1b[1m")
    code, screen = on_terminal(world, *words)

    assert code == 1
    assert "Waiting until [/x]\\x1b[1m.apps.internal is served" in screen
    assert "Paths are not supported for internal domains: " in screen


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_be_steered_is_not(world: ControlPlane, term: str) -> None:
    """Where TERM says so, each line is printed once: no colours, no cursor movement, no spinner."""
    command = ("map-route", "app-b", "apps.internal", "--hostname", "app-b", "--wait", "served")
    for words in (("create-app", "app-b"), ("app", "pineapple"), ("app", "app-b"), command):
        screen = on_terminal(world, *words, term=term)[1]
        assert "app" in screen
        assert "\x1b" not in screen


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
    """Whoever sits at a terminal is asked, unless they said -f."""
    data_dir = {"C2C_DATA_DIR": str(world.socket.parent)}
    run_c2c("create-app", "app-b", **data_dir)
    ended, screen = on_terminal(world, *words, answer=answer)

    assert (ended, "Really delete the app" in screen) == (code, bool(answer))
    assert ("Delete cancelled" in screen) == bool(left)
    assert len(run_c2c("apps", "--output", "json", **data_dir).json()) == left


@pytest.mark.parametrize("stdin", ["/dev/null", "yes", "closed"])
def test_without_a_terminal_nothing_is_deleted_unasked(world: ControlPlane, stdin: str) -> None:
    """A script that says neither -f nor anything else keeps its app, and hears what to say."""
    data_dir = {"C2C_DATA_DIR": str(world.socket.parent)}
    environ = {"PATH": "/usr/bin:/bin", **data_dir}
    run_c2c("create-app", "app-b", **data_dir)
    given = {"/dev/null": "</dev/null", "yes": "<<< y", "closed": "<&-"}[stdin]
    words = ["bash", "-c", f'"$0" delete-app app-b {given}', C2C]
    ran = subprocess.run(
        words, capture_output=True, text=True, env=environ, timeout=DEADLINE, check=False
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "Nobody can be asked here whether to delete app 'app-b': add -f to delete it without a "
        "question\n"
    )
    assert len(run_c2c("apps", "--output", "json", **data_dir).json()) == 1


def test_columns_line_up_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide characters count as two, and nothing in a cell can steer the terminal."""
    apps: list[object] = [["x", "y"], []]
    print_table({"org": ["日本", "a\x1b[2J"], "apps": apps, "up": [True, False]}, empty="")

    assert capsys.readouterr().out == (
        "\norg        apps   up\n日本       x, y   yes\na\\x1b[2J          no\n"
    )


ROWS: dict[str, list[object]] = {
    "instance": ["app-b/0", "app-b/1"],
    "guid": ["3f1d1a52-8c6e-4a4b", "9b0e-0f9a53c3f5a1-8c6e"],
    "names": ["app-b.apps.internal, shop.apps.internal, 10.0.0.1", "x"],
}


def test_what_may_be_cut_is_cut_where_there_is_no_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The widest first, as far as it takes; where nobody says how much room there is, nothing."""
    monkeypatch.setenv("COLUMNS", "50")
    print_table(ROWS, empty="", cut=["guid", "names"])

    assert capsys.readouterr().out == (
        "\n"
        "instance  guid                 names\n"
        "app-b/0   3f1d1a52-8c6e-4a4b   app-b.apps.inter...\n"
        "app-b/1   9b0e-0f9a53c3f5a...  x\n"
    )


def test_what_has_no_room_beside_stands_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and broken between words."""
    monkeypatch.setenv("COLUMNS", "30")
    print_table(ROWS, empty="", cut=["guid"], below="names")

    assert capsys.readouterr().out == (
        "\n"
        "instance  guid\n"
        "app-b/0   3f1d1a52-8c6e-4a4b\n"
        "   app-b.apps.internal,\n"
        "   shop.apps.internal,\n"
        "   10.0.0.1\n"
        "app-b/1   9b0e-0f9a53c3f5a1...\n"
        "   x\n"
    )


def test_rows_that_have_no_room_at_all_become_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says all that its row says, whole, and no line is longer than it has to be."""
    monkeypatch.setenv("COLUMNS", "20")
    print_table({**ROWS, "ports": [8080, ""]}, empty="", cut=["guid"], below="names")

    assert capsys.readouterr().out == (
        "\n"
        "instance:   app-b/0\n"
        "guid:       3f1d1a52-8c6e-4a4b\n"
        "names:      app-b.apps.internal,\n"
        "            shop.apps.internal,\n"
        "            10.0.0.1\n"
        "ports:      8080\n"
        "\n"
        "instance:   app-b/1\n"
        "guid:       9b0e-0f9a53c3f5a1-8c6e\n"
        "names:      x\n"
        "ports:\n"
    )


@pytest.mark.parametrize("columns", ["40", "60", "80"])
@pytest.mark.parametrize(
    "words",
    [("apps",), ("routes",), ("routes", "--all"), ("instances",), ("network-policies", "--all")],
)
def test_a_table_is_as_wide_as_its_terminal(c2c: Run, words: tuple[str, ...], columns: str) -> None:
    """Nothing but a value that cannot be broken, such as a GUID, passes the edge."""
    c2c("create-app", "app-b")
    c2c("map-route", "app-b", "apps.internal", "--hostname", "a-service-of-ours")
    c2c("map-route", "app-b", "apps.internal", "--hostname", "backend")
    c2c("register-instance", "app-b", "--address", "127.0.1.10", "--app-address", "127.0.2.10")
    c2c("add-network-policy", "app-b", "app-b")

    ran = c2c(*words, COLUMNS=columns)

    assert ran.code == 0
    for line in ran.out.splitlines()[2:]:
        assert len(line) <= int(columns) or len(line.split()) == 2, line


def test_a_terminal_says_how_much_room_there_is(world: ControlPlane) -> None:
    """Where it is narrow a GUID is cut; programs get it whole."""
    data_dir = {"C2C_DATA_DIR": str(world.socket.parent)}
    run_c2c("create-app", "app-b", **data_dir)
    guid = "3f1d1a52-8c6e-4a4b-9b0e-0f9a53c3f5a1"
    run_c2c("register-instance", "app-b", "--address", "10.0.0.1", "--guid", guid, **data_dir)

    assert f"{guid[:12]}..." not in on_terminal(world, "instances", columns=120)[1]
    narrow = on_terminal(world, "instances", columns=80)[1].splitlines()
    assert len(narrow[-1]) == 80
    assert narrow[-1].startswith("app-b  0      10.0.0.1")
    assert narrow[-1].endswith("...")
    assert guid in on_terminal(world, "instances", "--output", "json", columns=80)[1]


def test_text_is_shown_as_it_is_where_it_can_be() -> None:
    """Printable text of any script stays; line ends and escapes become text."""
    assert printable("grün, 日本") == "grün, 日本"
    assert printable("a\nb\u202ec") == r"a\nb\u202ec"
    assert cell(0) == "0"
