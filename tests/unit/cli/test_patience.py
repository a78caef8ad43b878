"""A server that is waited for: how long a call may take, and what is said while it is away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from unittest.mock import Mock

import click
import pytest

from control_plane.cli.client import CALL_SECONDS
from control_plane.cli.patience import Patience
from control_plane.cli.progress import Wait
from control_plane.cli.reach import Away
from control_plane.reconciler.progress import Stage
from control_plane.server.api import waiting


def test_a_call_has_the_time_that_is_waited_besides_its_own() -> None:
    """Else it would end without an answer, or long after the time that people said."""
    times = [Wait(each, timedelta(minutes=2)).seconds for each in ("served", "acked", "committed")]

    assert times == [126.2, 126.2, CALL_SECONDS]


@pytest.mark.parametrize("seconds", [0.001, 1, 30, 300, 3600])
def test_the_wait_of_the_server_ends_by_itself(seconds: float) -> None:
    """It keeps time for its answer, and more of it the longer a call may take."""
    call = Mock(
        **{"time_remaining.return_value": Wait("acked", timedelta(seconds=seconds)).seconds}
    )

    assert waiting._seconds(waiting.Wait(Stage.ACKED, seconds), call) == seconds


def test_that_a_server_is_away_is_said_once_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is away for; and so is that it is back."""

    def away(why: str) -> Callable[[], int]:
        def ask() -> int:
            raise Away(why)

        return ask

    patience = Patience()
    with click.Context(click.Command("status")):
        found = [patience.look(each) for each in (lambda: 1, away("no server"), away("no name"))]
        assert str(patience.away) == "no name"
        found += [patience.look(each) for each in (lambda: 2, lambda: 3, away("no way"))]

    assert found == [1, None, None, 2, 3, None]
    assert capsys.readouterr().err.splitlines() == [
        "No server (trying again)",
        "The server answers again",
        "No way (trying again)",
    ]
