"""The standard streams of a run, whatever its caller made of them.

The rule of this module: a stream that the caller closed is /dev/null here, and an error in writing
to standard output says that it is standard output. So no command has to ask what its output is, and
none ends with a traceback because of it.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, cast


class _StandardOutput(io.FileIO):
    """Standard output without a buffer."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - whatever has a buffer
        """Write; an error names standard output as it would name another file."""
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def open_streams() -> None:
    """Give this process its three streams; call it once, before anything is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free, which is that of the closed stream, and so do
            # the programs that this one starts.
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # noqa: FBT003 - positional only
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    given = cast("io.TextIOWrapper", sys.stdout)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_StandardOutput(given.fileno(), "w", closefd=False)),
        encoding=given.encoding,
        # What the encoding of the locale does not have is escaped, and costs nobody the rest.
        errors="backslashreplace" if given.errors == "strict" else given.errors,
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )


def drop_unwritten() -> None:
    """Forget what a stream did not take, or Python would try again when it ends, and say 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
