"""What signals tell the sidecar.

The rule of this module: the first signal that asks for an end begins an orderly end, and the second
says that there is no time for it. Any other signal is passed on to the app, for which it was meant.
If there is no app, a signal that would end a process ends the instance in order, because a sidecar
that just died would leave its Envoy running.
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
"""To an app these mean to reload, to reopen its logs, to dump its threads or to drain; the sidecar
has no use for them."""

_ENDS = (signal.SIGHUP, signal.SIGQUIT)
"""The signals among them by which a terminal ends the programs that run on it."""


class Signals:
    """Handles the signals of this process while it is entered."""

    def __init__(self) -> None:
        """Start before any signal."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.number = signal.SIGTERM
        self._taken: set[signal.Signals] = set()

    def __enter__(self) -> Self:
        """Handle signals from here on; one that is ignored, as under nohup, ends no start."""
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
        """Restore the default handling."""
        for number in self._taken:
            asyncio.get_running_loop().remove_signal_handler(number)

    def forward_to(self, app: Child) -> None:
        """Pass on to the app what is not for the sidecar, even a signal that was ignored so far.

        The app inherits that the signal is ignored, so it ignores it too unless it handles it.
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
    """Do nothing; without a handler, the signal would end the process."""
