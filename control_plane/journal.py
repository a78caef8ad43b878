"""What systemd's journal is told about a line besides its text: how severe it is.

The rule of this module: a line is marked only if the journal itself reads the stream, since the
journal takes the mark off. Any other reader gets the lines as they are.
"""

from __future__ import annotations

import os
from typing import TextIO

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The levels as syslog numbers them."""


def journal_mark(output: TextIO, level: str) -> str:
    """Return the mark before a line of this level (sd-daemon(3)); "" if the journal does not read.

    The journal says in JOURNAL_STREAM which stream it reads (systemd.exec(5)).
    """
    try:
        file = os.fstat(output.fileno())
    except (OSError, ValueError):
        return ""
    is_read = os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"
    return f"<{PRIORITIES[level]}>" if is_read else ""
