"""What runs as the second process: it issues certificates while a crowd waits for them.

The rule of this module: it keeps the keys that it has as the control plane does, and ends with it.
"""

from __future__ import annotations

import signal
import sys

from control_plane.app.process import forbid_dumps
from control_plane.reconciler.issuer_process import serve

PROGRAM = (sys.executable, "-P", "-c", f"from {__name__} import main; main()")
"""How it is started: not by ``-m``, by which its messages would be of a module ``__main__``."""


def main() -> None:
    """Serve on standard input and output."""
    forbid_dumps()
    # Whoever interrupts the control plane at a terminal interrupts all that it started; it ends
    # this by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
