"""The standard streams of a run, whatever its caller did with them.

The rule of this module: a stream that the caller closed is /dev/null here, and an error in writing
to standard output names standard output. So no command has to check where its output goes, and none
ends with a traceback because of it. Only a command whose output is all that it is for asks first
whether anybody can get it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, cast


class _StandardOutput(io.FileIO):
    """Standard output without a buffer."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - whatever has a buffer
        """Write; an error names standard output, as it would name another file."""
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Output(io.TextIOWrapper):
    """Standard output as text.

    Attributes:
        was_closed: whether the caller closed it, so that nobody reads what is written.
    """

    was_closed = False


def open_streams() -> None:
    """Give this process its three streams; call this once, before anything is printed."""
    was_closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The new file gets the lowest free descriptor, which is that of the closed stream;
            # child processes inherit it in that place.
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # noqa: FBT003 - positional only
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    given = cast("io.TextIOWrapper", sys.stdout)
    output = _Output(
        io.BufferedWriter(_StandardOutput(given.fileno(), "w", closefd=False)),
        encoding=given.encoding,
        # A character that the locale cannot encode is escaped, so that the rest can still be
        # printed.
        errors="backslashreplace" if given.errors == "strict" else given.errors,
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )
    output.was_closed = was_closed
    sys.stdout = output


def require_output() -> None:
    """Refuse to go on if the caller closed standard output.

    Raises:
        OSError: it did.
    """
    if isinstance(sys.stdout, _Output) and sys.stdout.was_closed:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")


def drop_unwritten() -> None:
    """Drop what a stream did not accept; or Python would retry at exit, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
