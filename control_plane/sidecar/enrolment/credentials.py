"""The credentials of this instance as they are now.

The rule of this module: what is current is on disk. Whoever opens a connection asks for the
credentials then, and what depends on them is told when they change. A disk that is slow holds up
nobody but who has something to keep: this process answers DNS queries, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from control_plane import log_events
from control_plane.ca import read_certificates
from control_plane.sidecar.directory import Credentials, SidecarDirectory
from control_plane.sidecar.identity import HeldIdentity
from control_plane.undisturbed import undisturbed


class LiveCredentials:
    """Holds the credentials, and replaces them.

    Attributes:
        renewal_wanted: set when the identity is to be renewed before its time.
    """

    def __init__(self, directory: SidecarDirectory, credentials: Credentials) -> None:
        """Start with what is on disk."""
        self._directory = directory
        self._current = credentials
        self._watchers: list[Callable[[Credentials], None]] = []
        self._trusted = _fingerprints(credentials.trust_bundle)
        self._keeping = asyncio.Lock()
        self.renewal_wanted = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    @property
    def current(self) -> Credentials:
        """What to show and whom to trust in a handshake now."""
        return self._current

    @property
    def trusted_roots(self) -> tuple[str, ...]:
        """The fingerprints of the CA certificates that are trusted now."""
        return self._trusted

    def check_room(self) -> None:
        """Return if other credentials could be kept.

        Raises:
            StorageError: the disk is full, or cannot be written to for another reason.
        """
        self._directory.check_room()

    def watch(self, watcher: Callable[[Credentials], None]) -> None:
        """Tell somebody of each change, after it is on disk; it returns at once."""
        self._watchers.append(watcher)

    async def renewed(
        self, identity: HeldIdentity, trust_bundle: bytes, *, asked: Credentials
    ) -> None:
        """Take an identity that was issued for the same instance.

        Args:
            identity: the new one.
            trust_bundle: what came with it.
            asked: what was current when it was asked for. If CA certificates were told since then,
                those stay: the answer may be older, and the next report brings the newest.

        Raises:
            StorageError: it could not be written; the old one stays.
        """
        await undisturbed(self._renewed(identity, trust_bundle, asked))

    async def trust(self, trust_bundle: bytes) -> None:
        """Take the CA certificates to trust from now on, if they are others than before.

        Raises:
            InvalidArgument: they cannot be read; the old ones stay.
            StorageError: they could not be written; likewise.
        """
        if trust_bundle == self._current.trust_bundle:
            return
        read_certificates(trust_bundle)
        await undisturbed(self._trust(trust_bundle))

    async def _renewed(
        self, identity: HeldIdentity, trust_bundle: bytes, asked: Credentials
    ) -> None:
        def newest(current: Credentials) -> Credentials:
            is_new = current.trust_bundle == asked.trust_bundle
            return Credentials(identity, trust_bundle if is_new else current.trust_bundle)

        await self._replace(newest)
        self.renewal_wanted.clear()

    async def _trust(self, trust_bundle: bytes) -> None:
        await self._replace(lambda current: Credentials(current.identity, trust_bundle))
        self._log.info(log_events.TRUST_REPLACED, roots=self._trusted)

    async def _replace(self, change: Callable[[Credentials], Credentials]) -> None:
        """Keep what a change makes of the credentials, one change after the other."""
        async with self._keeping:
            credentials = change(self._current)
            await asyncio.to_thread(self._directory.write_credentials, credentials)
            self._current = credentials
            self._trusted = _fingerprints(credentials.trust_bundle)
        for watcher in self._watchers:
            watcher(credentials)


def _fingerprints(pem: bytes) -> tuple[str, ...]:
    return tuple(each.fingerprint for each in read_certificates(pem))
