"""What is said to a command is text: what is none is refused by that rule, and not by a codec."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.sidecar import SidecarOptions
from tests.installed import C2C
from tests.unit.cli.running import Ran, Run, run_c2c

DEADLINE = 30.0

NO_TEXT = "a\udcffb"
"""How Python shows the bytes a, 0xff and b in an argument."""


@pytest.mark.parametrize(
    "words",
    [
        ("create-app", NO_TEXT),
        ("map-route", NO_TEXT, "apps.internal", "--hostname", "b"),
        ("join-token", NO_TEXT),
        ("apps", "--space", NO_TEXT),
        ("apps", "--data-dir", NO_TEXT),
        ("bootstrap", "app-b/0", "--dir", NO_TEXT),
        (NO_TEXT,),
    ],
    ids=lambda words: " ".join(words[:-1]) or "command",
)
def test_an_argument_that_is_no_text(words: tuple[str, ...]) -> None:
    """It is quoted as it was given, before anything is done or said to be done."""
    assert run_c2c(*words, C2C_DATA_DIR="/nonexistent") == Ran(
        1, "", "Incorrect Usage: argument must be UTF-8 text: 'a\\xffb'\n"
    )


def test_a_locale_that_knows_no_umlaut() -> None:
    """The fault is that of the locale then, and another one helps."""
    umlaut = r"'gr\xc3\xbcn'"
    environ = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(
        [C2C, "apps", "--space", "grün"],
        capture_output=True,
        text=True,
        env={**environ, "C2C_DATA_DIR": "/nonexistent"},
        timeout=DEADLINE,
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (
        1,
        "",
        f"Incorrect Usage: argument must be ASCII text: {umlaut}, or run c2c with LC_ALL=C.UTF-8\n",
    )


def test_what_belongs_to_another_program_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of the app that a sidecar starts may be any bytes, and long dashes too."""
    words = ("sidecar", "--server", "h:1", "\N{EN DASH}address", "127.0.0.1", "--token", "t")
    app = ("app", NO_TEXT, "\N{EM DASH}port", "--debug")
    seen: list[tuple[str, ...]] = []

    def run(options: SidecarOptions) -> int:
        seen.append(options.command)
        return 0

    monkeypatch.setattr("control_plane.cli.sidecar.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("control_plane.sidecar.main.main", run)
    ran = run_c2c(*words, "--fingerprint", "ab" * 32, "--", *app)

    assert (ran.code, seen) == (0, [app])


def test_a_variable_of_a_sidecar_that_is_misspelt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has it, since the sidecar would go on without what was meant."""
    monkeypatch.setattr("control_plane.cli.sidecar.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("control_plane.sidecar.main.main", lambda _options: 0)
    words = ("sidecar", "--server", "h:1", "--address", "127.0.0.1", "--token", "t")
    with capture_logs() as logs:
        ran = run_c2c(
            *words,
            *("--fingerprint", "ab" * 32),
            C2C_SIDECAR_DNS_ADRESS="127.0.0.1:53",
            C2C_DATA_DIR="/data",
        )

    assert ran.code == 0
    assert [(each["event"], each["setting"], each["reason"]) for each in logs] == [
        (
            log_events.SETTING_WARNED,
            "C2C_SIDECAR_DNS_ADRESS",
            "nothing reads this variable: did you mean C2C_SIDECAR_DNS_ADDRESS?",
        )
    ]


@pytest.mark.parametrize("address", ["", "127.0.0.1:53"])
def test_resolvers_of_a_sidecar_that_serves_no_dns_are_told(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The app would look up names in vain, and nothing else would say why."""
    monkeypatch.setattr("control_plane.cli.sidecar.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("control_plane.sidecar.main.main", lambda _options: 0)
    words = ("sidecar", "--server", "h:1", "--address", "127.0.0.1", "--token", "t")
    variables = {"C2C_SIDECAR_DNS_UPSTREAM": "10.0.0.2:53", "C2C_SIDECAR_DNS_ADDRESS": address}
    with capture_logs() as logs:
        assert run_c2c(*words, "--fingerprint", "ab" * 32, **variables).code == 0

    assert [(each["event"], each["setting"], each["reason"]) for each in logs] == [
        (
            log_events.SETTING_WARNED,
            "dns_upstream",
            "DNS is served nowhere, so this has no effect: set --dns-address as well",
        )
    ] * (not address)


def test_a_variable_that_is_no_text(c2c: Run) -> None:
    """It is refused where it is used, by the same rule."""
    ran = c2c("apps", C2C_SPACE=NO_TEXT)

    assert (ran.code, ran.err) == (1, "Text must be UTF-8: 'a\\udcffb'\n")


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would be below it has to be named otherwise; the rest works."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    rule = "path has no working directory to begin at, name it from / on"
    token = ("--address", "auto", "--token", "t", "--fingerprint", "0" * 64)

    assert run_c2c("version").code == 0
    assert run_c2c("apps", "--data-dir", "x").err == f"--data-dir: {rule}: 'x'\n"
    for words, path in (
        (("bootstrap", "app-b/0"), "."),
        (("sidecar", "--server", "127.0.0.1:1", *token), "c2c-sidecar"),
    ):
        first = run_c2c(*words).err.splitlines()[0]
        assert first == f"Incorrect Usage: --dir: {rule}: '{path}'"


def test_a_directory_that_is_too_deep_for_a_socket() -> None:
    """An Envoy that is told to put its admin socket there does not start."""
    fits = "/" + "d" * (107 - len("//admin.sock"))
    ran = run_c2c("bootstrap", "app-b/0", "--dir", fits + "d", C2C_DATA_DIR="/nonexistent")

    assert ran.err.splitlines()[0].startswith(
        "Incorrect Usage: --dir: Envoy's admin socket would have a path of 108 octets and may "
        "have 107: '/ddd"
    )
    near = run_c2c("bootstrap", "app-b/0", "--dir", fits, C2C_DATA_DIR="/nonexistent")
    assert near.err.startswith("No server answers")


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    """It is refused before the server is asked."""
    (tmp_path / "file").touch()
    ran = run_c2c("bootstrap", "app-b/0", "--dir", str(tmp_path / "file"))

    assert ran.err.splitlines()[0] == (
        f"Incorrect Usage: --dir: not a directory: '{tmp_path}/file'"
    )
