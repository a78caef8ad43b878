"""What the sidecar is told by signals.

The rule of this module: the first signal that asks for an end begins an orderly one, the second
says that there is no time for it. Any other goes to the app, for which it was meant.
"""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Self

from control_plane.sidecar.child import Child

STOP = (signal.SIGTERM, signal.SIGINT)

FORWARDED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
"""To an app these mean reload, reopen logs, dump threads or drain; the sidecar has no use for
them."""


class Signals:
    """Takes the signals of this process while it is entered."""

    def __init__(self) -> None:
        """Start without having been told anything."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.number = signal.SIGTERM
        self._forwarded: list[signal.Signals] = []

    def __enter__(self) -> Self:
        """Take SIGTERM and SIGINT from here on."""
        for number in STOP:
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_stop, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number in (*STOP, *self._forwarded):
            asyncio.get_running_loop().remove_signal_handler(number)

    def forward_to(self, app: Child) -> None:
        """Pass on to the app what is not for the sidecar."""
        for number in FORWARDED:
            asyncio.get_running_loop().add_signal_handler(number, app.send, number)
            self._forwarded.append(number)

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self.stop.is_set():
            self.hurry.set()
        else:
            self.number = number
            self.stop.set()
