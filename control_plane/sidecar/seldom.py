"""What the log was told already.

The rule of this module: what goes wrong again and again in the same way is told once, and then so
seldom that it hides nothing else; whoever debugs sees it each time.
"""

from __future__ import annotations

from control_plane.clock import Clock

AGAIN_SECONDS = 600.0
"""After which time the same is news once more."""

_REMEMBERED = 256
"""How many texts are remembered: a text may have a number in it, and so never come again."""


class Seldom:
    """Remembers what was told, and when."""

    def __init__(self, clock: Clock) -> None:
        """Start with nothing told."""
        self._clock = clock
        self._told: dict[str, float] = {}

    def is_news(self, text: str) -> bool:
        """Tell whether a text was not told lately; whoever asks tells it now."""
        now = self._clock.monotonic()
        told = self._told.get(text)
        if told is not None and now - told < AGAIN_SECONDS:
            return False
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[text] = now
        return True

    def forget(self) -> None:
        """Take everything for news again, since it went well meanwhile."""
        self._told.clear()
