"""The same is told once, and then seldom."""

from __future__ import annotations

from control_plane.sidecar.seldom import AGAIN_SECONDS, Seldom
from tests.unit.reconciler.clocks import ManualClock


async def test_the_same_is_news_once_in_a_while() -> None:
    """Something else is news at once, and so is the same after it went well meanwhile."""
    clock = ManualClock()
    seldom = Seldom(clock)

    assert [seldom.is_news(each) for each in ("a", "a", "b", "a")] == [True, False, True, False]
    await clock.advance(AGAIN_SECONDS)
    assert [seldom.is_news(each) for each in ("a", "a")] == [True, False]
    seldom.forget()
    assert seldom.is_news("a")


def test_what_is_remembered_is_bounded() -> None:
    """Texts that differ each time, by a number in them, are forgotten at some point."""
    seldom = Seldom(ManualClock())
    for number in range(1000):
        assert seldom.is_news(f"error {number}")

    assert seldom.is_news("error 0")
    assert not seldom.is_news("error 999")
