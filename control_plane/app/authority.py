"""The CAs of this control plane on disk: which CAs there are after a start, whatever happened.

The rules of this module:

- A CA that clients would not believe stops the start, rather than the apps.
- Key and certificate are in one private file. While a CA is rotated, all keys, certificates and the
  stage are in one private file. Each step replaces one file, so no crash separates what belongs
  together.
- As long as the file of a rotation exists, it is right, and every other file may be out of date.
- A CA that was retired never comes back, even if a setting still names it. Its key is in none of
  these files: after a rotation, ``ca.pem`` contains the CA that stays, or does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from control_plane import log_events
from control_plane.ca import (
    NOT_STRICT,
    Authority,
    Rotation,
    Stage,
    create_authority,
    strict_problem,
)
from control_plane.ca import new_key_pair as new_key
from control_plane.ca.rotation import steady
from control_plane.ca.rotation_file import (
    authority_pem,
    read_authority,
    read_rotation,
    write_rotation,
)
from control_plane.clock import Clock
from control_plane.errors import ConfigurationError
from control_plane.server.authorities import Authorities
from control_plane.settings import Settings
from control_plane.settings.own_authority import ROTATION_FILE, read_named
from control_plane.settings.retired import CA_FILE, RETIRED_FILE, retired_fingerprints, why_not_used
from control_plane.store.files import load_or_create, read_private, remove_private, write_private
from control_plane.store.protocol import IssuedRecord

CA_LIFETIME = timedelta(days=3650)

_COMMON_NAME = "c2c-control-plane CA"


def open_authorities(
    settings: Settings,
    clock: Clock,
    new_serial: Callable[[], int],
    issued: Iterable[IssuedRecord] = (),
) -> Authorities:
    """Return the CAs as the last rotation left them.

    If there was no rotation, it is the CA that the settings name, or else the embedded one, which
    is made if it is missing. If none of these CAs signed the certificates that were issued, a
    warning is logged.

    Raises:
        ConfigurationError: a file cannot be used; every problem is named.
        StorageError: the new CA could not be written.
    """
    files = _Files(settings, clock)
    rotation = files.read() or steady(files.single(new_serial), clock.now())
    _warn_if_others_signed(rotation, issued, settings, clock.now())
    return Authorities(rotation, files.keep)


def _warn_if_others_signed(
    rotation: Rotation, issued: Iterable[IssuedRecord], settings: Settings, now: datetime
) -> None:
    """Warn if no certificate that may be in use was signed by a CA that is here.

    In that case the database was restored without the CA, or the settings name another one. No
    instance that the former CA let in is let in now.
    """
    signed_by = {each.issuer for each in issued if each.not_after > now}
    both = (rotation.active, rotation.other)
    others = signed_by - retired_fingerprints(settings.data_dir)
    if others and signed_by.isdisjoint(each.fingerprint for each in both if each):
        structlog.get_logger(__name__).warning(
            log_events.CA_OTHERS_SIGNED,
            fingerprints=sorted(others),
            reason="another CA signed whatever instances have, so that none of them is let in: "
            "unless that is meant, stop the server and put that CA back, from the same backup as "
            "the database",
        )


def new_authority(clock: Clock, serial: int) -> Authority:
    """Make a CA to replace another one; its name is unique, because clients look up CAs by name."""
    name = f"{_COMMON_NAME} {serial % 16**8:08x}"
    return create_authority(
        name, now=clock.now(), lifetime=CA_LIFETIME, key=new_key(), serial=serial
    )


class _Files:
    """The files of the CAs in a data directory."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._data_dir = settings.data_dir
        self._embedded = settings.data_dir / CA_FILE
        self._rotation = settings.data_dir / ROTATION_FILE
        self._retired = settings.data_dir / RETIRED_FILE
        self._log = structlog.get_logger(__name__)
        self._named = read_named(settings, clock.now())
        self._names_retired = bool(reason := why_not_used(settings.ca_cert, settings.data_dir))
        if reason:
            self._log.warning(log_events.SETTING_WARNED, setting="ca_cert", reason=reason)

    def read(self) -> Rotation | None:
        """Return the rotation that is under way, or None."""
        if not self._rotation.exists():
            return None
        data = read_private(self._rotation)
        try:
            rotation = read_rotation(data, self._clock.now())
        except ConfigurationError as error:
            raise ConfigurationError(
                [f"file {str(self._rotation)!r}: {problem}" for problem in error.problems]
            ) from error
        named = self._named
        known = [each for each in (rotation.active, rotation.other) if each is not None]
        if named is not None and named.fingerprint not in {each.fingerprint for each in known}:
            problem = (
                f"ca_cert names CA {named.fingerprint}, which has no part in the rotation that is "
                f"under way in {str(self._rotation)!r}: finish it or take it back first"
            )
            raise ConfigurationError([problem])
        if self._signs_again(rotation):
            problem = (
                f"file {str(self._rotation)!r}: CA {rotation.active.fingerprint} signs, but was "
                "retired, so the file is left from an older backup: remove it if the other files "
                "are from a newer one"
            )
            raise ConfigurationError([problem])
        self._log.info(
            log_events.CA_LOADED,
            fingerprint=rotation.active.fingerprint,
            stage=rotation.stage.value,
        )
        return rotation

    def single(self, new_serial: Callable[[], int]) -> Authority:
        """Return the only CA, when no rotation is under way."""
        named = self._named
        if named is not None:
            self._log.info(log_events.CA_LOADED, fingerprint=named.fingerprint)
            self._warn_if_not_strict(named)
            return named
        if self._names_retired:
            return self._unretired(self._read_embedded(read_private(self._embedded)))

        def create() -> bytes:
            key, now = new_key(), self._clock.now()
            made = create_authority(
                _COMMON_NAME, now=now, lifetime=CA_LIFETIME, key=key, serial=new_serial()
            )
            self._log.info(log_events.CA_CREATED, fingerprint=made.fingerprint)
            return authority_pem(made)

        return self._unretired(self._read_embedded(load_or_create(self._embedded, create)))

    def keep(self, before: Rotation, after: Rotation) -> None:
        """Store a step of a rotation on disk.

        Raises:
            StorageError: the step is not on disk, and after a restart the rotation is as before; or
                the disk failed after it was written, and after a restart the rotation may be as
                before or after the step.
        """
        if after.stage is not Stage.STEADY:
            if self._signs_again(after):
                # Its retirement broke off, and was taken back.
                self._note_retired(self._retired_but(after.active))
            write_private(self._rotation, write_rotation(after))
            return
        named = self._named
        if named is None or named.fingerprint != after.active.fingerprint:
            write_private(self._embedded, authority_pem(after.active))
        else:
            # The file contains the CA that left, or was written by a retirement that did not
            # finish.
            remove_private(self._embedded)
        retired = self._retired_but(after.active)
        if before.stage is Stage.ACTIVATED and before.other is not None:
            retired.add(before.other.fingerprint)
        self._note_retired(retired)
        # From here on the other files count; with this file, the last copy of the old key is
        # removed.
        remove_private(self._rotation)

    def _signs_again(self, rotation: Rotation) -> bool:
        """Tell whether a CA signs that was retired, and has not come back as a prepared one."""
        retired = retired_fingerprints(self._data_dir)
        return rotation.stage is Stage.PREPARED and rotation.active.fingerprint in retired

    def _retired_but(self, active: Authority) -> set[str]:
        return retired_fingerprints(self._data_dir) - {active.fingerprint}

    def _note_retired(self, retired: set[str]) -> None:
        write_private(self._retired, "".join(f"{each}\n" for each in sorted(retired)).encode())

    def _warn_if_not_strict(self, named: Authority) -> None:
        problem = strict_problem(named)
        if problem:
            reason = f"{NOT_STRICT}: {problem}"
            self._log.warning(log_events.SETTING_WARNED, setting="ca_cert", reason=reason)

    def _read_embedded(self, pem: bytes) -> Authority:
        return read_authority(pem, self._clock.now(), f"file {str(self._embedded)!r}")

    def _unretired(self, embedded: Authority) -> Authority:
        """Return the embedded CA; a retired one may be there because of a restored backup.

        Raises:
            ConfigurationError: it was retired.
        """
        if embedded.fingerprint not in retired_fingerprints(self._data_dir):
            return embedded
        problem = (
            f"file {str(self._embedded)!r}: CA {embedded.fingerprint} was retired, so it is not "
            "used: name the CA that took its place with ca_cert and ca_key, or bring back the file "
            "that has it; or remove this one to begin with a new CA, and enrol everybody anew"
        )
        raise ConfigurationError([problem])
