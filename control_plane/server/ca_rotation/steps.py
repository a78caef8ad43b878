"""The steps of a CA rotation, each of which is taken when all instances are ready for it.

The rule of this module: if instances are not ready, a step is refused with their names and the
reasons, and changes nothing; with ``force`` it is taken all the same. A step is on disk before
anybody is told of it, and the next step waits until then, even if the caller has long left; a slow
disk holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.ca import Authority, Rotation, Stage
from control_plane.ca import rotation as steps
from control_plane.clock import Clock
from control_plane.errors import (
    ConfigurationError,
    FailedPrecondition,
    InvalidArgument,
    StorageError,
)
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE
from control_plane.server.access.asking import require_unrevoked
from control_plane.server.authorities import Authorities
from control_plane.server.ca_rotation.progress import Leaving, Look, Readiness, RotationProgress
from control_plane.undisturbed import undisturbed

_DEFAULT_PLACE = (DEFAULT_ORG, DEFAULT_SPACE)

SHOWN = 5
"""How many of the instances that are not ready a sentence names."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where CAs come from.

    Attributes:
        create: makes a new CA.
        read: reads an operator's CA from the files of its certificate and its key; raises
            ConfigurationError.
        new_serial: gives the serial number of a certificate.
    """

    create: Callable[[], Authority]
    read: Callable[[Path, Path], Authority]
    new_serial: Callable[[], int]


class CaRotation:
    """Takes the steps of a rotation."""

    def __init__(
        self,
        authorities: Authorities,
        progress: RotationProgress,
        sources: Sources,
        *,
        check_sizes: Callable[[Authority], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """Rotate these CAs.

        Args:
            check_sizes: raises FailedPrecondition if an app's certificates would be too large with
                the chain of a CA.
        """
        self._authorities = authorities
        self._sources = sources
        self._check_sizes = check_sizes
        self._clock = clock
        self._step = asyncio.Lock()
        self._log = structlog.get_logger(__name__)
        self.progress = progress

    @property
    def rotation(self) -> Rotation:
        """The CAs, and the stage of the rotation, as they are now."""
        return self._authorities.rotation

    async def settled(self) -> None:
        """Return once no step is being written, although its caller may have left."""
        async with self._turn():
            pass

    async def prepare(
        self, certificate: str = "", key: str = "", *, uncrossed: bool = False
    ) -> None:
        """Make another CA trusted.

        Args:
            certificate: the file of an operator's CA certificate and all certificates above it; ""
                makes a new CA.
            key: the file of its private key.
            uncrossed: whether the CA may be one that the active CA cannot cross-sign.

        Raises:
            InvalidArgument: the files do not make a CA that clients would accept.
            FailedPrecondition: another rotation is under way, or the CA cannot be cross-signed.
            StorageError: the step could not be written.
        """
        async with self._turn():
            steps.require_steady(self.rotation)  # before a CA is made or read for nothing
            is_own = certificate or key
            successor = (
                await asyncio.to_thread(self._read, certificate, key)
                if is_own
                else self._sources.create()
            )
            now = self._clock.now()
            after = steps.prepare(self.rotation, successor, now, uncrossed=uncrossed)
            await self._take(after, log_events.CA_PREPARED, successor)

    async def undo_prepare(self, *, force: bool = False, caller: str = "") -> None:
        """Forget the prepared CA.

        Args:
            force: whether to take the step although it cuts somebody off.
            caller: the name of the CA that signed the caller's certificate; "" if it has none.

        Raises:
            FailedPrecondition: there is no prepared CA, or certificates of it may be in use.
            StorageError: the step could not be written.
        """
        async with self._turn():
            after = steps.undo_prepare(self.rotation, self._clock.now())
            await self._leave(after, log_events.CA_PREPARE_UNDONE, force=force, caller=caller)

    async def activate(self, *, force: bool = False) -> None:
        """Make the prepared CA sign.

        Raises:
            FailedPrecondition: there is no prepared CA; or an instance does not trust it yet; or an
                app's certificates would be too large with what is sent along from then on.
            StorageError: the step could not be written.
        """
        async with self._turn():
            after = steps.activate(self.rotation, self._clock.now(), self._sources.new_serial())
            with self._authorities.expecting(after):
                await self._check_sizes(after.signing)
                readiness = self.progress.trusting(after.active).at_once()
                self._require(readiness, "trust the new CA", force=force)
                await self._take(after, log_events.CA_ACTIVATED, after.active)

    async def undo_activate(self, *, force: bool = False) -> None:
        """Make the CA sign that signed before.

        Raises:
            FailedPrecondition: there is no such CA, it cannot be cross-signed, or an app's
                certificates would be too large.
            StorageError: the step could not be written.
        """
        async with self._turn():
            now, serial = self._clock.now(), self._sources.new_serial()
            after = steps.undo_activate(self.rotation, now, serial, force=force)
            with self._authorities.expecting(after):
                await self._check_sizes(after.signing)
                await self._take(after, log_events.CA_ACTIVATE_UNDONE, after.active)

    async def retire(self, *, force: bool = False, caller: str = "") -> None:
        """Forget the CA that signed before.

        Args:
            force: as of ``undo_prepare``.
            caller: likewise.

        Raises:
            FailedPrecondition: there is no such CA, or certificates of it may be in use.
            StorageError: the step could not be written.
        """
        async with self._turn():
            after = steps.retire(self.rotation, self._clock.now())
            await self._leave(after, log_events.CA_RETIRED, force=force, caller=caller)

    def look(self) -> Look | None:
        """Look which instances are ready for the next step; None if no rotation is under way."""
        rotation = self.rotation
        if rotation.other is None:
            return None
        if rotation.stage is Stage.PREPARED:
            return self.progress.trusting(rotation.other)
        return self.progress.leaving(self._leaving(rotation.other))

    async def summary(self) -> str:
        """Say that a rotation is under way, and what it waits for; "" if none is."""
        look = self.look()
        if look is None:
            return ""
        role, step = ("retiring", "retire")
        if self.rotation.stage is Stage.PREPARED:
            role, step = ("prepared", "activate")
        awaited = self.sentence(await look.in_turns())
        return f"a CA is {role}: {awaited or f'everybody is ready for c2c ca {step}'}"

    def sentence(self, readiness: Readiness) -> str:
        """Say what the next step waits for; "" if it waits for nothing."""
        if not readiness.waiting:
            return ""
        names = self._names(readiness, with_reasons=False)
        return f"{readiness.ready} of {readiness.wanted} {readiness.done}; waiting for {names}"

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Have no other step be decided on within this context, and none be written before it.

        A caller that is cancelled twice leaves while its step is still being written.
        """
        async with self._step:
            await self._authorities.settled()
            yield

    def _read(self, certificate: str, key: str) -> Authority:
        for path, field in ((certificate, "ca_cert"), (key, "ca_key")):
            if not path.startswith("/"):
                raise InvalidArgument(
                    "an own CA needs the absolute paths of both files, ca_cert and ca_key, on the "
                    "control plane's machine",
                    field=field,
                )
        try:
            return self._sources.read(Path(certificate), Path(key))
        except ConfigurationError as error:
            raise InvalidArgument(str(error), field="ca_cert") from None

    async def _leave(self, after: Rotation, event: str, *, force: bool, caller: str) -> None:
        leaving = self.rotation.other
        if leaving is None:
            raise FailedPrecondition("no rotation is under way")
        if caller == leaving.subject and not force:
            raise FailedPrecondition(
                "your own certificate was signed by the CA that would leave: get another one with "
                "c2c issue-operator-cert first, or use --force",
                field="force",
            )
        readiness = self.progress.leaving(self._leaving(leaving)).at_once()
        self._require(readiness, "have left the CA", force=force)
        await self._take(after, event, leaving)

    async def _take(self, after: Rotation, event: str, authority: Authority) -> None:
        """Take a step, to its end even if its caller leaves meanwhile; log which CA it is about.

        A failure is logged too, since a caller that left is not told of it.

        Raises:
            Unauthenticated: the caller's certificate was revoked while it waited for its turn.
            StorageError: the step could not be written.
        """
        require_unrevoked(self.progress.state())

        async def taken() -> None:
            try:
                await self._authorities.change(after)
            except StorageError as error:
                self._log.error(log_events.STORE_FAILED, reason=str(error))
                raise
            self._log.info(event, fingerprint=authority.fingerprint, subject=authority.subject)

        await undisturbed(taken())

    def _leaving(self, authority: Authority) -> Leaving:
        called = "the prepared CA" if self.rotation.stage is Stage.PREPARED else "the old CA"
        return Leaving(authority, called, self.rotation.since)

    def _require(self, readiness: Readiness, what: str, *, force: bool) -> None:
        if readiness.waiting and not force:
            raise FailedPrecondition(
                f"{readiness.ready} of {readiness.wanted} instances {what}; not "
                f"{self._names(readiness)}: wait (--wait), or use --force to go on without them",
                field="force",
            )

    def _names(self, readiness: Readiness, *, with_reasons: bool = True) -> str:
        apps = readiness.state.apps
        shown = [
            apps[each.instance.app_guid].key.named_in(_DEFAULT_PLACE, each.instance.index)
            + (f" ({each.reason})" if with_reasons else "")
            for each in readiness.waiting[:SHOWN]
        ]
        if len(readiness.waiting) > SHOWN:
            shown.append(f"{len(readiness.waiting) - SHOWN} more")
        return ", ".join(shown)
