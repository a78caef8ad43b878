"""The CA of this control plane: the operator's own, or one that is made on the first start.

The rule of this module: key and certificate are in one private file, so that no crash can part
them, and a CA that clients would not believe stops the start instead of the apps.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.ca import Authority, create_authority, load_authority, new_key_pair
from control_plane.clock import Clock
from control_plane.errors import ConfigurationError
from control_plane.settings import Settings
from control_plane.store.files import load_or_create, read_private

CA_FILE = "ca.pem"
"""The embedded CA in the data directory: its private key, then its certificate."""

CA_LIFETIME = timedelta(days=3650)

_COMMON_NAME = "c2c-control-plane CA"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


def open_authority(settings: Settings, clock: Clock, new_serial: Callable[[], int]) -> Authority:
    """Return the CA that the settings name, or the embedded one, which is made if there is none.

    Raises:
        ConfigurationError: a file cannot be used; every problem is named.
        StorageError: the new CA could not be written.
    """
    log = structlog.get_logger(__name__)
    if settings.ca_cert is not None and settings.ca_key is not None:
        certificate = _read(settings.ca_cert)
        authority = load_authority(certificate, read_private(settings.ca_key), now=clock.now())
        log.info(log_events.CA_LOADED, fingerprint=authority.fingerprint)
        return authority

    def create() -> bytes:
        key = new_key_pair()
        made = create_authority(
            _COMMON_NAME, now=clock.now(), lifetime=CA_LIFETIME, key=key, serial=new_serial()
        )
        log.info(log_events.CA_CREATED, fingerprint=made.fingerprint)
        return key.private_pem() + made.certificate_pem

    pair = load_or_create(settings.data_dir / CA_FILE, create)
    key, mark, certificate = pair.partition(_CERTIFICATE)
    return load_authority(mark + certificate, key, now=clock.now())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            [f"file {str(path)!r} cannot be read: {error.strerror}"]
        ) from error
