"""One process at a time in a data directory.

The rule of this module: the lock is the kernel's, on an open file, so it ends with the process that
holds it however that ends, and nobody ever has to remove it by hand.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from control_plane.errors import ConfigurationError


class DirectoryLock:
    """The right to write in a directory, held until ``release`` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        """Take the right, and note who has it for whoever comes next.

        Raises:
            ConfigurationError: another process has it, or the directory cannot be written to.
        """
        path = directory / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                [f"data directory {str(directory)!r} cannot be used: {error.strerror}"]
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            self.release()
            problem = (
                f"data directory {str(directory)!r} is in use by process {holder}: "
                "stop that one, or choose another directory"
            )
            raise ConfigurationError([problem]) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give up the right."""
        os.close(self._file)
