"""What is said to somebody whose command does not exist."""

from __future__ import annotations

import re

import pytest

from control_plane.cli import catalog
from control_plane.cli.suggestions import EXPLAINED, MEANT
from tests.unit.cli.running import run_c2c

NAMES = {entry.name for group in catalog.GROUPS for entry in group.entries}
TAKING_AWAY = ("delete-app", "unmap-route", "remove-network-policy", "remove-instance")


def _said(word: str) -> str:
    ran = run_c2c(word)
    assert ran.code == 1
    return ran.err.removeprefix(f"Incorrect Usage: '{word}' is not a registered command").strip()


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("delete-route", "unmap-route"),
        ("remove-app", "delete-app"),
        ("create-route", "map-route"),
        ("r", "routes"),
        ("enable-ssh", "update-app --ssh"),
        ("proxy-status", "status"),
        ("rollout", "wait"),
        ("watch", "status --watch"),
        ("enroll", "join-token"),
        ("policy", "network-policies"),
        ("mapp-route", "map-route"),
        ("instance", "instances"),
    ],
)
def test_a_word_from_elsewhere_or_with_a_typing_error(word: str, command: str) -> None:
    """Words of ``cf`` and ``istioctl`` are translated, and others found by how they look."""
    assert _said(word) == f", did you mean '{command}'?"


@pytest.mark.parametrize("word", sorted(EXPLAINED))
def test_a_word_without_a_command_is_explained(word: str) -> None:
    """Whoever types it reads what there is instead, on one line that a terminal can show."""
    assert _said(word) == f": {EXPLAINED[word]}"
    assert len(EXPLAINED[word]) < 100


@pytest.mark.parametrize("word", ["create-domain", "restart-app-instance", "set-env", "domains"])
def test_a_word_that_looks_like_another_command_is_not_taken_for_it(word: str) -> None:
    """Neither an app nor an instance is made by who wanted something else."""
    assert "did you mean" not in _said(word)
    assert _said(word).startswith(": ")


def test_every_command_that_is_named_exists() -> None:
    """A translation may have options; nothing that is a command here is translated."""
    named = [command.partition(" --")[0] for command in MEANT.values()]
    named += re.findall(r"'c2c (?:help )?([a-z-]+)", " ".join(EXPLAINED.values()))

    assert set(named) <= NAMES
    assert not NAMES & (MEANT.keys() | EXPLAINED.keys())


@pytest.mark.parametrize("name", TAKING_AWAY)
def test_what_takes_something_away_is_never_guessed(name: str) -> None:
    """However little is wrong with its name; and the like of it never leads to the contrary."""
    for word in (name[:-1], f"{name}s", name.replace("-", "_")):
        assert _said(word) == ", see 'c2c help'"


@pytest.mark.parametrize("word", ["remove-apps", "delete-routes", "destroy-app", "ca-retire"])
def test_who_wants_less_is_not_led_to_more(word: str) -> None:
    """``create-app`` and ``map-route`` look like these, and do the contrary."""
    assert _said(word) == ", see 'c2c help'"
