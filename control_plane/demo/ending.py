"""What ends the demo: Ctrl-C, SIGTERM, or closing its terminal.

The rule of this module: each of these ends everything that was started, in order, and only the
first one counts. If a later one cut the end short, sidecars, Envoys and apps would be left behind.
"""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Any, Self

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SIGNALLED = 128
"""A shell adds this to the number of the signal that ended a program."""


class Ending:
    """Cancels the task that entered it when a signal asks for the end."""

    def __init__(self) -> None:
        """Start before any signal."""
        self._number: signal.Signals | None = None
        self._task: asyncio.Task[Any] | None = None

    @property
    def code(self) -> int | None:
        """The exit code of a program that was ended by that signal; None if there was no signal."""
        return None if self._number is None else _SIGNALLED + self._number

    def __enter__(self) -> Self:
        """Handle the signals from here on."""
        self._task = asyncio.current_task()
        for number in ASKING:
            asyncio.get_running_loop().add_signal_handler(number, self._asked, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the default handling."""
        for number in ASKING:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _asked(self, number: signal.Signals) -> None:
        if self._number is None and self._task is not None:
            self._number = number
            self._task.cancel()
