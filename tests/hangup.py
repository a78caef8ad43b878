"""What SIGHUP, which a terminal sends as it closes, does to processes that a test starts."""

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
