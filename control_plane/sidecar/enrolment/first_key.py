"""The private key of an enrolment that is under way.

The rule of this module: the key is on the disk before the sidecar sends its token, and stays there
until the identity is stored. A sidecar that is killed in between therefore repeats its request with
the same key at the next start, and becomes the instance that was registered for it. It needs no
other token.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from control_plane.ca import KeyFactory, KeyPair, load_key_pair
from control_plane.errors import ConfigurationError, InvalidArgument, NotDurable, StorageError
from control_plane.store.files import read_private, remove_private, write_private

FILE = "enrolling.pem"


class FirstKey:
    """Keeps the key of an enrolment in a file of mode 0600."""

    def __init__(self, directory: Path, new_key: KeyFactory) -> None:
        """Use the sidecar's directory; nothing is written before the first call."""
        self._path = directory / FILE
        self._new_key = new_key

    def __call__(self) -> KeyPair:
        """Return the key of an enrolment that was interrupted, or else store and return a new one.

        Raises:
            StorageError: the new key could not be stored.
        """
        try:
            return load_key_pair(read_private(self._path))
        except (ConfigurationError, InvalidArgument, OSError):
            key = self._new_key()
            with suppress(NotDurable):  # if the machine crashes now, a use of the token is lost
                write_private(self._path, key.private_pem())
            return key

    def drop(self) -> None:
        """Delete the key, because the identity is stored."""
        with suppress(StorageError):
            remove_private(self._path)
