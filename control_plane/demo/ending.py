"""How the demo is told to end: by Ctrl-C, by SIGTERM, or by its terminal, which was closed.

The rule of this module: each of them ends everything that was started, in order, and only the first
counts. What comes while the end is under way would leave sidecars, Envoys and apps behind.
"""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Any, Self

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SIGNALLED = 128
"""A shell adds the number of the signal that ended a process to this."""


class Ending:
    """Cancels the task that entered it when somebody asks for the end."""

    def __init__(self) -> None:
        """Start without having been asked."""
        self._number: signal.Signals | None = None
        self._task: asyncio.Task[Any] | None = None

    @property
    def code(self) -> int | None:
        """The exit code of a program that such a signal ended; None if nobody asked."""
        return None if self._number is None else _SIGNALLED + self._number

    def __enter__(self) -> Self:
        """Take the signals from here on."""
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
        """Give them back."""
        for number in ASKING:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _asked(self, number: signal.Signals) -> None:
        if self._number is None and self._task is not None:
            self._number = number
            self._task.cancel()
