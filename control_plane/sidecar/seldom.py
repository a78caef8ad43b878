"""What was logged lately.

The rule of this module: a failure that recurs in the same way is logged once as news, and then so
seldom that it hides nothing else. At the level debug it is logged each time.
"""

from __future__ import annotations

from control_plane.clock import Clock

AGAIN_SECONDS = 600.0
"""How long after it was logged the same text is news again."""

_REMEMBERED = 256
"""How many texts are remembered: a text may contain a number, and so never recur."""


class Seldom:
    """Remembers which texts were logged, and when."""

    def __init__(self, clock: Clock) -> None:
        """Start with nothing logged."""
        self._clock = clock
        self._told: dict[str, float] = {}

    def is_news(self, text: str) -> bool:
        """Tell whether a text was not logged lately; the caller logs it now."""
        now = self._clock.monotonic()
        told = self._told.get(text)
        if told is not None and now - told < AGAIN_SECONDS:
            return False
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[text] = now
        return True

    def forget(self) -> None:
        """Take every text for news again, because all went well meanwhile."""
        self._told.clear()
