"""Looking repeatedly at a server that may be away for a while.

The rule of this module: the user says how long to wait, so a server that does not answer is waited
for like everything else. That it went away, and that it is back, is said once each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from control_plane.cli.errors import capitalised
from control_plane.cli.output import warn
from control_plane.cli.reach import Away

T = TypeVar("T")


class Patience:
    """Looks at a server, and tolerates that it is away.

    Attributes:
        away: why the last look got no answer; None if it got one.
    """

    def __init__(self) -> None:
        """Start with a server that was there."""
        self.away: Away | None = None

    def look(self, ask: Callable[[], T]) -> T | None:
        """Return what the server answers; None while it is away."""
        try:
            found = ask()
        except Away as error:
            self.miss(error)
            return None
        self.meet("the server answers again")
        return found

    def miss(self, error: Away) -> None:
        """Say that the server is away, unless that was said already."""
        if self.away is None:
            warn(f"{capitalised(str(error))} (trying again)")
        self.away = error

    def meet(self, sentence: str) -> None:
        """Say that the server is back, if it was away.

        Args:
            sentence: the sentence that says so.
        """
        if self.away is not None:
            warn(capitalised(sentence))
        self.away = None
