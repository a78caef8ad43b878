"""The CAs of this control plane as they are now, for all code that signs or says which CA to trust.

The rule of this module: the current CAs are those on disk. Code that signs asks for the CA at that
moment, and code that has to react to a change of the CAs is told of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from control_plane.ca import Authority, Issuers, Rotation

Keep = Callable[[Rotation, Rotation], None]
"""Writes a rotation to disk, given the rotation before the change and the one after it.

It is called in a thread, because a disk may be slow. Raises StorageError if the rotation was not
written, and a restart finds it as before; or if the disk failed after it was written, and a restart
may find either of the two."""


class Authorities:
    """Holds the rotation, and replaces it."""

    def __init__(self, rotation: Rotation, keep: Keep) -> None:
        """Start with the rotation that is on disk."""
        self._rotation = rotation
        self._keep = keep
        self._observers: list[Callable[[], None]] = []
        self._gone: set[str] = set()
        self._expected: list[Rotation] = []
        self._writing = asyncio.Lock()

    @property
    def rotation(self) -> Rotation:
        """The CAs, and the stage of the rotation."""
        return self._rotation

    def current(self) -> Authority:
        """Return the CA to sign with, with the certificates that it sends along."""
        return self._rotation.signing

    def signing(self) -> tuple[Authority, ...]:
        """Return that CA, and the CA that signs after a step that is about to be taken."""
        return self._rotation.signing, *(each.signing for each in self._expected)

    @contextmanager
    def expecting(self, rotation: Rotation) -> Iterator[None]:
        """Have whatever is decided within this context suit what a rotation may become."""
        self._expected.append(rotation)
        try:
            yield
        finally:
            self._expected.remove(rotation)

    def trust_bundle_pem(self) -> bytes:
        """Return the CA certificates that everybody has to trust."""
        return self._rotation.signing.trust_bundle_pem

    def issuers(self) -> Issuers:
        """Return the certificates of the CAs whose leaf certificates count."""
        return self._rotation.issuers

    def is_gone(self, issuer: str) -> bool:
        """Tell whether a CA of this name was retired since this process started.

        A certificate that it signed opens no connection any more; this is for connections that are
        older.
        """
        return issuer in self._gone

    def observe(self, observer: Callable[[], None]) -> None:
        """Call the observer after each change, once it is on disk; the observer returns at once."""
        self._observers.append(observer)

    async def settled(self) -> None:
        """Return once no step is being written, whether or not anybody waits for that step."""
        async with self._writing:
            pass

    async def change(self, rotation: Rotation) -> None:
        """Take the next step of the rotation; the caller sees to it that this is not cut short.

        The step must follow from the rotation as it is once everything is settled.

        Raises:
            StorageError: the step was not written, and everything is as before, also after a
                restart; or the disk failed after the step was written, and a restart may find
                either of the two.
        """
        async with self._writing:
            before = self._rotation
            with self.expecting(rotation):
                await asyncio.to_thread(self._keep, before, rotation)
            self._rotation = rotation
        there = {each.subject for each in (rotation.active, rotation.other) if each is not None}
        if before.other is not None:
            self._gone.add(before.other.subject)
        self._gone -= there
        for observer in self._observers:
            observer()
