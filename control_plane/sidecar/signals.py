"""What the sidecar is told by signals.

The rule of this module: the first signal that asks for an end begins an orderly one, the second
says that there is no time for it. Any other goes to the app, for which it was meant. Where there is
none, what would end a process ends the instance in order: whoever just died would leave its Envoy.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from control_plane.sidecar.processes.child import Child

STOP = (signal.SIGTERM, signal.SIGINT)

FORWARDED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
"""To an app these mean reload, reopen logs, dump threads or drain; the sidecar has no use for
them."""

_ENDS = (signal.SIGHUP, signal.SIGQUIT)
"""Those of them by which a terminal ends what runs on it."""


class Signals:
    """Takes the signals of this process while it is entered."""

    def __init__(self) -> None:
        """Start without having been told anything."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.number = signal.SIGTERM
        self._taken: set[signal.Signals] = set()

    def __enter__(self) -> Self:
        """Take signals from here on; those that are ignored, as by nohup, end no start."""
        for number in STOP:
            self._take(number, self._told_to_stop)
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._take(number, self._told_to_stop if number in _ENDS else _pass_over)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number in self._taken:
            asyncio.get_running_loop().remove_signal_handler(number)

    def forward_to(self, app: Child) -> None:
        """Pass on to the app what is not for the sidecar, also what that ignored until now.

        The app ignores it too, as it inherits that, unless it knows what to do with it.
        """
        for number in FORWARDED:
            self._take(number, app.send)

    def _take(self, number: signal.Signals, handle: Callable[[signal.Signals], None]) -> None:
        asyncio.get_running_loop().add_signal_handler(number, handle, number)
        self._taken.add(number)

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self.stop.is_set():
            self.hurry.set()
        else:
            self.number = number
            self.stop.set()


def _pass_over(_number: signal.Signals) -> None:
    """Do nothing, where a process that takes no signal would end."""
