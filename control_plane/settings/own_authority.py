"""The CAs that the settings name: whether they are used, and how they are read.

The rule of this module: files that are no longer needed are not required. A CA that was retired is
not used, so its key may be destroyed. A CA that takes part in a rotation may have expired.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from control_plane.ca import Authority, load_authority, load_trusted
from control_plane.settings.fields import Settings
from control_plane.settings.retired import why_not_used
from control_plane.store.files import read_file, read_private

ROTATION_FILE = "ca-rotation.json"
"""Both CAs, keys included, while one replaces the other."""


def read_named(settings: Settings, now: datetime) -> Authority | None:
    """Return the CA that the settings name; None if they name none, or one that is not used.

    Raises:
        ConfigurationError: the files do not make a CA that clients would believe.
    """
    certificate, key = settings.ca_cert, settings.ca_key
    if certificate is None or key is None or why_not_used(certificate, settings.data_dir):
        return None
    if os.path.lexists(settings.data_dir / ROTATION_FILE):
        return read_authority_files(certificate, key, None)
    return read_authority_files(certificate, key, now, settings.internal_domains)


def read_authority_files(
    certificate: Path, key: Path, now: datetime | None, domains: Collection[str] = ()
) -> Authority:
    """Read an operator's CA; no other user may be able to read the file of its key.

    Args:
        certificate: the file of its certificates.
        key: the file of its key.
        now: as in ``load_authority``; so are ``domains``.

    Raises:
        ConfigurationError: the files do not make a CA that clients would believe.
    """
    return load_authority(
        read_file(certificate),
        read_private(key),
        now=now,
        where=f"files {str(certificate)!r} and {str(key)!r}",
        domains=domains,
    )


def read_router_ca(path: Path) -> bytes:
    """Read the CA certificates by which Envoy admits routers.

    Raises:
        ConfigurationError: the file cannot be read, or not everything in it.
    """
    return load_trusted(read_file(path), where=f"file {str(path)!r}")
