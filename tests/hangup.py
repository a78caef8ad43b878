"""What a terminal sends as it closes (SIGHUP), and at Ctrl-C, to processes that a test starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangup(how: signal.Handlers) -> Iterator[None]:
    """Have processes that are started in the block end by it (SIG_DFL), or ignore it (SIG_IGN).

    They inherit that, and tests may themselves run under nohup, or on a terminal.
    """
    before = signal.signal(signal.SIGHUP, how)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have processes that are started in the block end by Ctrl-C (SIGINT).

    Tests may themselves run in the background of a script, which starts them with SIGINT ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
