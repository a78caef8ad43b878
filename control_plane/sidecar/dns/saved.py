"""The last name table on disk, so that a sidecar that starts again can answer at once.

The rule of this module: what is on disk is a copy of the table in force, or nothing. If the new
table cannot be written, it is in force all the same, and the file with the old one is removed: from
that, a later start would answer names that are gone by then. If the file cannot be read, or belongs
to another instance, there is no saved table.

Unlike other private files (``store/files``), this one is not synced to disk. The control plane
waits for the ACK of each table, and a thousand sidecars of one machine would wait for one disk.
After a crash of the machine an older table may be back, until the control plane sends one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from control_plane.names import InstanceGuid

_MODE = 0o600


class SavedTable:
    """A file with the resource that was applied last."""

    def __init__(self, path: Path, instance: InstanceGuid) -> None:
        """Keep the table of one instance in this file, whose directory exists."""
        self._path = path
        self._owner = instance.encode("ascii") + b"\n"

    def load(self) -> bytes | None:
        """Return the resource that was saved for this instance, or None.

        Raises:
            OSError: there is a file, but it cannot be read.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if not content.startswith(self._owner):
            return None
        return content.removeprefix(self._owner)

    def save(self, resource: bytes) -> None:
        """Replace the saved resource, as a whole or not at all.

        Raises:
            OSError: the resource cannot be written; the one saved before is gone, if it can be
                removed.
        """
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._owner + resource)
            new.replace(self._path)
        except OSError:
            for each in (self._path, new):
                with suppress(OSError):
                    each.unlink()
            raise
