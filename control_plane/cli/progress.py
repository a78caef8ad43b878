"""Waiting for a change to arrive: ``--wait`` and ``--timeout``, and which instances are late.

The rule of this module: a change that was made stays made. If not every instance followed in time,
the command says which ones did not, and why, and fails, so that a script notices.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

import click
from click.core import ParameterSource
from google.protobuf import duration_pb2

from control_plane.api.v1 import progress_pb2
from control_plane.cli import kinds
from control_plane.cli.client import CALL_SECONDS, seconds_of
from control_plane.cli.errors import Failed
from control_plane.cli.globals import Target, pasted
from control_plane.cli.instance_name import name_of
from control_plane.cli.output import some_of
from control_plane.cli.tables import place_of
from control_plane.settings.values import format_duration

_STAGES = {
    "committed": progress_pb2.WAIT_COMMITTED,
    "acked": progress_pb2.WAIT_ACKED,
    "served": progress_pb2.WAIT_SERVED,
}


class Outcome(Protocol):
    """The answer to a change for which one can wait."""

    @property
    def complete(self) -> bool:
        """Whether every instance followed in time."""

    @property
    def behind(self) -> Sequence[progress_pb2.Behind]:
        """The instances that did not."""


def wait_options(function: Callable[..., object]) -> Callable[..., object]:
    """Give a command ``--wait`` and ``--timeout``."""
    timeout = click.option(
        "--timeout",
        type=kinds.CHANGE_TIME,
        default="30s",
        help="How long to wait at the most (Default: 30s)",
    )
    wait = click.option(
        "--wait",
        type=click.Choice(list(_STAGES)),
        default="committed",
        help="How far the change has to get first: committed to disk, acked by every connected "
        "instance, or served, as a new TLS handshake with each shows (Default: committed)",
    )
    return wait(timeout(needing_wait("wait", function)))


def needing_wait(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """Return a command that refuses a typed ``--timeout`` if it does not wait for anything.

    Args:
        name: the name of the parameter that is ``--wait``.
        function: the command.
    """

    @functools.wraps(function)
    def checked(*arguments: object, **options: object) -> object:
        source_of = click.get_current_context().get_parameter_source
        if source_of("timeout") is ParameterSource.COMMANDLINE and source_of(name) in (
            None,
            ParameterSource.DEFAULT,
        ):
            raise click.UsageError("--timeout needs --wait: without that, nothing is waited for")
        return function(*arguments, **options)

    return checked


def duration_of(time: timedelta) -> duration_pb2.Duration:
    """Return a duration as a message of the API."""
    made = duration_pb2.Duration()
    made.FromTimedelta(time)
    return made


class Wait:
    """How far one change has to get, and how long that may take, from now on.

    Attributes:
        word: how far, in the word that the user typed.
        stage: how far, as a value of the API.
        timeout: how long, as a message of the API.
    """

    def __init__(self, word: str, timeout: timedelta) -> None:
        """Take what the options of ``wait_options`` say."""
        self.word = word
        self.stage = _STAGES[word]
        self.timeout = duration_of(timeout)
        self._time = timeout
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the call may take, the wait included."""
        is_short = self.stage == progress_pb2.WAIT_COMMITTED
        return CALL_SECONDS if is_short else seconds_of(self._time)

    def require_complete(self, outcome: Outcome, done: str) -> None:
        """Fail if some instance did not follow in time.

        Args:
            outcome: the answer.
            done: what is done all the same, as the beginning of the sentence.

        Raises:
            Failed: some instance did not; the sentence names the instances that are behind, and
                why.
        """
        if self.stage == progress_pb2.WAIT_COMMITTED or outcome.complete:
            return
        is_spread = len({(each.org, each.space) for each in outcome.behind}) > 1
        behind = some_of([_sentence(each, is_spread=is_spread) for each in outcome.behind])
        status = _status(outcome.behind)
        if any(each.stopping for each in outcome.behind):
            after = time.monotonic() - self._began
            raise Failed(
                f"{done}, but the control plane stopped after {after:.1f}s, and it was not "
                f"{self.word} everywhere yet: {behind} (once it runs again, '{status}' shows more)"
            )
        raise Failed(
            f"{done}, but it is not {self.word} everywhere after {format_duration(self._time)}: "
            f"{behind} (see '{status}')"
        )


def _sentence(behind: progress_pb2.Behind, *, is_spread: bool) -> str:
    place = f" {place_of(behind)}" if is_spread else ""
    reason = f": {behind.reason}" if behind.reason and not behind.stopping else ""
    return f"{name_of(behind)}{place}{reason}"


def _status(behind: Sequence[progress_pb2.Behind]) -> str:
    """Return the command that shows more about the instances that are behind."""
    apps = {(each.org, each.space, each.app) for each in behind}
    if len(apps) != 1:
        return pasted("c2c status --all")
    ((org, space, app),) = apps
    return Target(org, space).command("status", app)
