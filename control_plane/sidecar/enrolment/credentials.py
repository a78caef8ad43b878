"""The credentials of this instance as they are now.

The rule of this module: the current credentials are on disk. Code that opens a connection asks for
the credentials at that moment, and code that depends on them is told when they change. A slow disk
holds up only the task that uses it, because this process answers DNS queries, too.
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
        renewal_wanted: set when the identity is to be renewed early.
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
        """What to show, and which CA certificates to trust, in a handshake now."""
        return self._current

    @property
    def trusted_roots(self) -> tuple[str, ...]:
        """The fingerprints of the CA certificates that are trusted now."""
        return self._trusted

    async def check_room(self) -> None:
        """Return if the disk has room for other credentials.

        Raises:
            StorageError: the disk is full, or cannot be written to for another reason.
        """
        await asyncio.to_thread(self._directory.check_room)

    def watch(self, watcher: Callable[[Credentials], None]) -> None:
        """Have a function called after each change is on disk; it must return at once."""
        self._watchers.append(watcher)

    async def renewed(
        self, identity: HeldIdentity, trust_bundle: bytes, *, asked: Credentials
    ) -> None:
        """Take over an identity that was issued for the same instance.

        Args:
            identity: the new one.
            trust_bundle: the CA certificates that came with it.
            asked: the credentials that were current when it was requested. If a report brought CA
                certificates since then, those stay: the ones given here may be older, and the next
                report brings the newest.

        Raises:
            StorageError: the new identity could not be written; the old one stays.
        """
        await undisturbed(self._renewed(identity, trust_bundle, asked))

    async def trust(self, trust_bundle: bytes) -> None:
        """Take over the CA certificates to trust from now on, if they have changed.

        Raises:
            InvalidArgument: they cannot be parsed; the old ones stay.
            StorageError: they could not be written; the old ones stay.
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
        """Apply a change to the credentials and store the result, one change after the other."""
        async with self._keeping:
            credentials = change(self._current)
            await asyncio.to_thread(self._directory.write_credentials, credentials)
            self._current = credentials
            self._trusted = _fingerprints(credentials.trust_bundle)
        for watcher in self._watchers:
            watcher(credentials)


def _fingerprints(pem: bytes) -> tuple[str, ...]:
    return tuple(each.fingerprint for each in read_certificates(pem))
