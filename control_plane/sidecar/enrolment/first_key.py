"""The key of somebody who enrols and is no instance yet.

The rule of this module: it is on the disk before the token leaves, and until the identity is. So
who is killed in between asks with the same key again, and becomes the instance that is registered
for it, without another token.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from control_plane.ca import KeyFactory, KeyPair, load_key_pair
from control_plane.errors import ConfigurationError, InvalidArgument, NotDurable, StorageError
from control_plane.store.files import read_private, remove_private, write_private

FILE = "enrolling.pem"


class FirstKey:
    """A private key in a file of mode 0600, while an enrolment is under way."""

    def __init__(self, directory: Path, new_key: KeyFactory) -> None:
        """Keep it in a directory of the sidecar's own; nothing is written yet."""
        self._path = directory / FILE
        self._new_key = new_key

    def __call__(self) -> KeyPair:
        """Return the key of an enrolment that was broken off, or else a new one.

        Raises:
            StorageError: it could not be written.
        """
        try:
            return load_key_pair(read_private(self._path))
        except (ConfigurationError, InvalidArgument, OSError):
            key = self._new_key()
            with suppress(NotDurable):  # a crash of the machine may then take a token along
                write_private(self._path, key.private_pem())
            return key

    def drop(self) -> None:
        """Forget it, since the identity is kept."""
        with suppress(StorageError):
            remove_private(self._path)
