"""One process at a time in the directory of a control plane or of a sidecar.

The rule of this module: the lock is the kernel's, on an open file. It ends with the process that
holds it, however that ends, so nobody ever has to remove it by hand.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from control_plane.errors import ConfigurationError

LOCK_FILE = "lock"
"""This file identifies a directory as that of a control plane or a sidecar."""


class DirectoryLock:
    """The right to write in a directory, held until ``release`` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        """Take the right, and note this process's id for the next process that tries.

        Raises:
            ConfigurationError: another process has it, or the directory cannot be written to.
        """
        try:
            self._file = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._take(directory)
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise ConfigurationError(
                [f"directory {str(directory)!r} cannot be used: {error.strerror}"]
            ) from error

    def release(self) -> None:
        """Give up the right."""
        os.close(self._file)

    def _take(self, directory: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").partition("\n")[0]
            problem = (
                f"directory {str(directory)!r} is in use by process {holder}: "
                "stop that one, or choose another directory"
            )
            raise ConfigurationError([problem]) from None
        line = f"{os.getpid()}\n".encode()
        # In this order, a full disk has room for the line where an earlier process had written one.
        os.pwrite(self._file, line, 0)
        os.ftruncate(self._file, len(line))
