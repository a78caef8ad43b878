"""Absences: how long those that are away are given, and when nobody's time is up."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership import absences as module
from control_plane.reconciler.membership.absences import MOST_EXTENSIONS, Absences
from tests.unit.reconciler.clocks import settled

A, B, C = InstanceGuid("a"), InstanceGuid("b"), InstanceGuid("c")
GRACE, AFTER_START = 3, 6
"""How long somebody has who is away, in seconds, and how long after a start.

A tenth of what it is, or the test would be ended for what it takes on its own clock.
"""


class Fleet:
    """Instances that come and go, and who counts as gone, while time is as the test tells it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start with nobody there."""
        loop = asyncio.get_running_loop()
        real, self._ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead)
        monkeypatch.setattr(module, "GRACE_SECONDS", GRACE)
        monkeypatch.setattr(module, "GRACE_AFTER_START_SECONDS", AFTER_START)
        self._there: set[InstanceGuid] = set()
        self.gone: list[InstanceGuid] = []
        self.absences = Absences(lambda: bool(self._there), self.gone.append)

    def come(self, *instances: InstanceGuid) -> None:
        """Have each of some open a stream."""
        for each in instances:
            self.absences.came(each)
            self._there.add(each)

    def leave(self, *instances: InstanceGuid) -> None:
        """Have the streams of some break."""
        for each in instances:
            self._there.discard(each)
            self.absences.left(each)

    async def wait(self, seconds: float) -> None:
        """Let that much time pass."""
        self._ahead += seconds
        await settled()


async def test_a_clock_that_is_started_again_is_set_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is gone by a clock that another one has replaced."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A)
    fleet.absences.expected(A)
    await fleet.wait(GRACE)
    assert fleet.gone == []
    await fleet.wait(AFTER_START - GRACE)
    assert fleet.gone == [A]


async def test_whose_time_is_up_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is there, so it is not the control plane that is cut off."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B, C)
    fleet.leave(A, B)
    await fleet.wait(GRACE - 1)
    assert not fleet.gone
    assert fleet.absences.keeps_place(A)

    await fleet.wait(1)

    assert fleet.gone == [A, B]
    assert fleet.absences.is_overdue(A)
    assert not fleet.absences.keeps_place(A)
    assert not fleet.absences.is_overdue(C)


async def test_who_comes_back_in_time_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock stops, and starts anew with its next absence."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    for _ in range(2):
        fleet.leave(A)
        await fleet.wait(GRACE - 1)
        fleet.come(A)
    await fleet.wait(GRACE)

    assert not fleet.gone


async def test_one_that_was_the_only_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the streams of one break is no sign that the control plane is cut off."""
    fleet = Fleet(monkeypatch)
    fleet.come(A)
    fleet.leave(A)
    await fleet.wait(GRACE)

    assert fleet.gone == [A]


async def test_nobody_is_gone_while_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rather the control plane that is cut off, and that is said once."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B, C)
    with capture_logs() as logs:
        fleet.leave(A)
        await fleet.wait(GRACE / 2)
        fleet.leave(B, C)
        for _ in range(10):
            await fleet.wait(GRACE)

    assert not fleet.gone
    alarm = fleet.absences.alarm
    assert alarm.startswith("no Envoy is connected, and 3 instances that were are waited for: ")
    assert [(line["event"], line["reason"]) for line in logs] == [(log_events.FLEET_UNHEARD, alarm)]


async def test_nobody_keeps_a_place_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gets the address of one of them does not wait until somebody is heard of."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A, B)
    assert fleet.absences.keeps_place(A)

    await fleet.wait(GRACE)

    assert not fleet.absences.keeps_place(A)
    assert not fleet.absences.is_overdue(A)


async def test_with_the_first_that_is_back_everybody_has_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a start: those whose time was up, and those who had less of it left."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B, C)
    fleet.leave(A, B)
    await fleet.wait(GRACE / 2)
    fleet.leave(C)
    await fleet.wait(GRACE / 2)
    with capture_logs() as logs:
        fleet.come(A)
    assert all(fleet.absences.keeps_place(each) for each in (A, B, C))
    assert [(line["event"], line["instances"]) for line in logs] == [(log_events.FLEET_HEARD, 3)]
    assert fleet.absences.alarm == ""

    await fleet.wait(AFTER_START - 1)
    fleet.come(B)
    assert not fleet.gone
    await fleet.wait(1)

    assert fleet.gone == [C]


async def test_who_is_back_at_once_gives_everybody_time_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody's time was up, so nobody had to be told that it was not counted."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    with capture_logs() as logs:
        fleet.leave(A, B)
        await fleet.wait(GRACE - 1)
        fleet.come(A)
        await fleet.wait(AFTER_START - 1)
    assert not fleet.gone
    assert not logs

    await fleet.wait(1)

    assert fleet.gone == [B]


async def test_who_was_there_before_a_start_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is away then."""
    fleet = Fleet(monkeypatch)
    fleet.absences.expected(A)
    fleet.come(B)
    fleet.absences.expected(C)
    await fleet.wait(AFTER_START - 1)
    assert not fleet.gone

    await fleet.wait(1)

    assert fleet.gone == [A, C]


async def test_a_control_plane_that_starts_cut_off_waits_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has not heard of anybody yet, as one whose network is cut while it runs."""
    fleet = Fleet(monkeypatch)
    fleet.absences.expected(A)
    fleet.absences.expected(B)
    await fleet.wait(10 * AFTER_START)

    fleet.come(A)
    await fleet.wait(AFTER_START - 1)
    assert not fleet.gone
    await fleet.wait(1)

    assert fleet.gone == [B]


async def test_one_whose_sidecar_speaks_has_time_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its network is back, and its Envoy has yet to try again; what it says next does not count."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A)
    await fleet.wait(GRACE - 1)
    fleet.absences.spoke(A)
    fleet.absences.spoke(B)
    await fleet.wait(GRACE - 1)
    assert not fleet.gone
    fleet.absences.spoke(A)

    await fleet.wait(1)

    assert fleet.gone == [A]


async def test_a_word_shortens_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start there is more of it left than a word gives."""
    fleet = Fleet(monkeypatch)
    fleet.absences.expected(A)
    fleet.come(B)
    fleet.absences.spoke(A)
    await fleet.wait(AFTER_START - 1)
    assert not fleet.gone

    await fleet.wait(1)

    assert fleet.gone == [A]


async def test_the_word_counts_in_each_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came back has all of its time when it is away again."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    for _ in range(2):
        fleet.leave(A)
        await fleet.wait(GRACE - 1)
        fleet.absences.spoke(A)
        await fleet.wait(GRACE - 1)
        fleet.come(A)

    assert not fleet.gone


async def test_nobodys_time_is_up_once_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of those that are away nor of those that leave later."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B, C)
    fleet.leave(A)
    fleet.absences.hold()
    fleet.leave(B)
    await fleet.wait(10 * AFTER_START)

    assert not fleet.gone


async def test_who_is_forgotten_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that was removed is neither gone later nor one of several that are lost."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A, B)
    fleet.absences.forget(A)
    await fleet.wait(GRACE)

    assert fleet.gone == [B]


async def test_one_that_comes_and_goes_keeps_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time nobody is there for a moment; that gives more time once in an absence."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(B)
    passed = 0
    while not fleet.gone and passed < 10 * AFTER_START:
        fleet.leave(A)
        fleet.come(A)
        await fleet.wait(1)
        passed += 1

    assert fleet.gone == [B]
    assert passed == AFTER_START


@pytest.mark.parametrize("stays", [0, AFTER_START - 1])
async def test_one_that_is_away_whenever_time_is_up_keeps_nobody_else_for_long(
    monkeypatch: pytest.MonkeyPatch, stays: int
) -> None:
    """It looks like a control plane that is cut off again and again, but only so often."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A, B)
    await fleet.wait(GRACE)
    visits = 0
    while not fleet.gone and visits < 10 * MOST_EXTENSIONS:
        fleet.come(A)
        await fleet.wait(stays)
        fleet.leave(A)
        await fleet.wait(AFTER_START)
        visits += 1

    assert fleet.gone[0] == B
    assert visits == MOST_EXTENSIONS


async def test_a_control_plane_that_is_cut_off_again_soon_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who had not come back by then had no time to; it is not gone while nobody is there."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    fleet.leave(A, B)
    for _ in range(MOST_EXTENSIONS - 1):
        await fleet.wait(AFTER_START)
        fleet.come(A)
        await fleet.wait(1)
        fleet.leave(A)
    await fleet.wait(10 * AFTER_START)

    assert not fleet.gone


async def test_who_is_lost_again_has_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane was cut off twice, and each time is an absence of its own."""
    fleet = Fleet(monkeypatch)
    fleet.come(A, B)
    for _ in range(2):
        fleet.leave(A, B)
        await fleet.wait(GRACE - 1)
        fleet.come(A)
        await fleet.wait(AFTER_START - 1)
        fleet.come(B)

    assert not fleet.gone
