"""The CAs of this control plane as they are now, for all who sign or say whom to trust.

The rule of this module: what is current is on disk. Whoever signs asks at that moment, and who has
to do something about a change is told of it.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.ca import Authority, Issuers, Rotation

Keep = Callable[[Rotation, Rotation], None]
"""Puts a rotation on the disk, given the one before and the one after.

Raises StorageError if it is not there, and after a restart the rotation is as before; or if the
disk failed once it was there, and after a restart it may be as either."""


class Authorities:
    """Holds the rotation, and replaces it."""

    def __init__(self, rotation: Rotation, keep: Keep) -> None:
        """Start with what is on disk."""
        self._rotation = rotation
        self._keep = keep
        self._observers: list[Callable[[], None]] = []
        self._gone: set[str] = set()

    @property
    def rotation(self) -> Rotation:
        """The CAs and the stage."""
        return self._rotation

    def current(self) -> Authority:
        """Return the CA to sign with, and what it has to send."""
        return self._rotation.signing

    def trust_bundle_pem(self) -> bytes:
        """Return the CA certificates that everybody has to trust."""
        return self._rotation.signing.trust_bundle_pem

    def issuers(self) -> Issuers:
        """Return the certificates of the CAs whose leaves count."""
        return self._rotation.issuers

    def is_gone(self, issuer: str) -> bool:
        """Tell whether a CA of this name left since this process started.

        Nobody connects any more with what it signed; this is for those who did before.
        """
        return issuer in self._gone

    def observe(self, observer: Callable[[], None]) -> None:
        """Tell somebody of each change, after it is on disk; it returns at once."""
        self._observers.append(observer)

    def change(self, rotation: Rotation) -> None:
        """Take the next step of the rotation.

        Raises:
            StorageError: everything is as before, also after a restart; or the disk failed once the
                step was there, and after a restart it may be as either.
        """
        before = self._rotation
        self._keep(before, rotation)
        self._rotation = rotation
        there = {each.subject for each in (rotation.active, rotation.other) if each is not None}
        if before.other is not None:
            self._gone.add(before.other.subject)
        self._gone -= there
        for observer in self._observers:
            observer()
