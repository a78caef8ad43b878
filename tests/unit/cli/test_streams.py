"""What a command makes of streams that are closed, full or not read: a sentence at the most."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.api.world import ControlPlane
from tests.installed import C2C

FULL = "Cannot use standard output: No space left on device\n"
DEADLINE = 30.0


def run(
    redirected: str, *words: str, data_dir: Path = Path("/nonexistent"), **variables: str
) -> tuple[int, str, str]:
    """Run a command whose streams a shell redirects; return its code and what arrived of them."""
    environ = {"PATH": "/usr/bin:/bin", "C2C_DATA_DIR": str(data_dir), **variables}
    ran = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", C2C, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ,
        timeout=DEADLINE,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", ["apps", "apps --output json", "version", "--help", "help apps"])
def test_an_output_that_is_full(world: ControlPlane, words: str, unbuffered: str) -> None:
    """Whatever is printed, one sentence says that it could not be, and the command fails."""
    ran = run(
        ">/dev/full",
        *words.split(),
        data_dir=world.socket.parent,
        PYTHONUNBUFFERED=unbuffered,
    )

    assert ran == (1, "", FULL)


def test_an_output_that_cannot_be_written() -> None:
    """It is named too if it was opened for reading only."""
    assert run("1</dev/null", "version") == (
        1,
        "",
        "Cannot use standard output: Bad file descriptor\n",
    )


def test_a_refusal_that_cannot_be_written() -> None:
    """Where standard error is full nothing is said, and the exit code tells."""
    assert run("2>/dev/full", "app", "pineapple")[0] == 1
    assert run(">/dev/full 2>&1", "app", "pineapple") == (1, "", "")


def test_an_output_that_was_closed(world: ControlPlane) -> None:
    """It is as if nobody read it: what the command does is done, and how that ended is told."""
    data_dir = world.socket.parent

    assert run(">&-", "version", "--output", "json") == (0, "", "")
    assert run(">&-", "create-app", "app-b", data_dir=data_dir) == (0, "", "")
    assert run(">&-", "instances", "--output", "json", data_dir=data_dir) == (0, "", "")
    code, _, err = run(">&-", "app", "pineapple", data_dir=data_dir)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("App 'pineapple' not found")
    assert run(">&- 2>&- <&-", "app", "app-b", data_dir=data_dir) == (0, "", "")
    assert run(">&- 2>&- <&-", "app", "pineapple", data_dir=data_dir) == (1, "", "")


def test_an_output_that_is_all_that_a_command_is_for(world: ControlPlane) -> None:
    """Where it was closed the command fails, and makes nothing that nobody could get."""
    data_dir = world.socket.parent
    run("", "create-app", "app-b", data_dir=data_dir)
    run("", "register-instance", "app-b", "--address", "127.0.1.1", data_dir=data_dir)

    for words in ("join-token app-b", "trust-bundle", "bootstrap app-b/0"):
        for output in ([], ["--output", "json"])[: 1 if words.startswith("bootstrap") else 2]:
            ran = run(">&-", *words.split(), *output, data_dir=data_dir)
            assert ran == (1, "", "Cannot use standard output: Bad file descriptor\n")
    assert run("", "join-tokens", "--output", "json", data_dir=data_dir)[1] == "[]\n"


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_join_token_that_cannot_be_printed(world: ControlPlane, output: str) -> None:
    """It is worthless, since whoever asked for it does not have it; other tokens stay."""
    data_dir = world.socket.parent
    run("", "create-app", "app-b", data_dir=data_dir)
    run("", "join-token", "app-b", data_dir=data_dir)
    before = run("", "join-tokens", "--output", "json", data_dir=data_dir)

    assert run(">/dev/full", "join-token", "app-b", "--output", output, data_dir=data_dir) == (
        1,
        "",
        FULL,
    )

    assert run("", "join-tokens", "--output", "json", data_dir=data_dir) == before


def test_an_input_that_was_closed(world: ControlPlane) -> None:
    """No command reads from it, and one that would ask a person finds that there is none."""
    data_dir = world.socket.parent
    run("", "create-app", "app-b", data_dir=data_dir)

    assert run("<&-", "apps", data_dir=data_dir)[::2] == (0, "")
    code, out, err = run("<&-", "delete-app", "app-b", "-f", data_dir=data_dir)
    assert (code, err) == (0, "")
    assert out.endswith("OK\n")


def test_progress_needs_no_standard_error(world: ControlPlane) -> None:
    """A command that would show what it waits for does so on a terminal only."""
    data_dir = world.socket.parent
    run("", "create-app", "app-b", data_dir=data_dir)
    words = ("map-route", "app-b", "apps.internal", "--hostname", "app-b", "--wait", "acked")

    assert run("2>&-", *words, data_dir=data_dir)[0] == 0


def test_a_reader_that_has_had_enough(world: ControlPlane) -> None:
    """``c2c ... | head`` ends without a word when head has had enough, also in an error."""
    for words in ("trust-bundle", "app pineapple", "--help"):
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run(
            [C2C, *words.split()],
            stdout=writer,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "C2C_DATA_DIR": str(world.socket.parent)},
            timeout=DEADLINE,
            check=False,
        )
        os.close(writer)

        assert (ran.returncode, ran.stderr) == (1, b""), words


def test_letters_that_the_locale_does_not_have(world: ControlPlane) -> None:
    """They are escaped, and cost nobody the rest of the output."""
    ran = run("", "apps", "-s", "日本", data_dir=world.socket.parent, PYTHONIOENCODING="latin-1")

    assert ran == (
        0,
        "Getting apps in org default / space \\u65e5\\u672c...\n\nNo apps found\n",
        "",
    )


def test_completion_that_is_called_by_hand() -> None:
    """Without what a shell says to it, it is a sentence as well."""
    code, out, err = run("", _C2C_COMPLETE="bash_complete")

    assert (code, out) == (1, "")
    assert err.startswith("Unexpected error: KeyError: 'COMP_WORDS'")
