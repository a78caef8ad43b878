"""The CA that the settings name: whether it counts, and reading it.

The rule of this module: files that are needed no more are not asked for. A CA that was retired is
not used, so its key may be destroyed; and of one that takes part in a rotation it does not matter
that it has ended.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from control_plane.ca import Authority, load_authority, read_certificate
from control_plane.errors import InvalidArgument
from control_plane.settings.fields import Settings
from control_plane.store.files import read_file, read_private

CA_FILE = "ca.pem"
"""The embedded CA in the data directory: its private key, then its certificates."""

ROTATION_FILE = "ca-rotation.json"
"""Both CAs, keys included, while one is replaced by the other."""

RETIRED_FILE = "ca-retired.txt"
"""The fingerprints of the CAs that were retired; nothing secret."""


def retired_fingerprints(data_dir: Path) -> set[str]:
    """Return which CAs were retired here.

    Raises:
        ConfigurationError: the file that says so cannot be read.
    """
    path = data_dir / RETIRED_FILE
    # Whoever may not look into the directory does not learn of it, and cannot run a server there.
    if not os.path.lexists(path):
        return set()
    return set(read_private(path).decode("ascii", "replace").split())


def why_not_used(certificate: Path | None, data_dir: Path) -> str:
    """Return why the CA that the settings name is not used: it was retired; "" if it was not.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    if certificate is None:
        return ""
    try:
        named = read_certificate(read_file(certificate)).fingerprint
    except InvalidArgument:
        return ""  # who reads both files says all that is wrong with them
    if named not in retired_fingerprints(data_dir):
        return ""
    return (
        "this CA was retired, so it is not used: remove the settings ca_cert and ca_key, or name "
        f"the files of the CA in {str(data_dir / CA_FILE)!r}"
    )


def read_named(settings: Settings, now: datetime) -> Authority | None:
    """Return the CA that the settings name; None if they name none, or one that is not used.

    Raises:
        ConfigurationError: the files do not make an authority that clients would believe.
    """
    certificate, key = settings.ca_cert, settings.ca_key
    if certificate is None or key is None or why_not_used(certificate, settings.data_dir):
        return None
    if os.path.lexists(settings.data_dir / ROTATION_FILE):
        return _load(certificate, key, None)
    return read_authority_files(certificate, key, now, settings.internal_domains)


def read_authority_files(
    certificate: Path, key: Path, now: datetime, domains: Collection[str]
) -> Authority:
    """Read an operator's CA; nobody else may read the file of its key.

    Args:
        domains: where routes may be, which it must not exclude.

    Raises:
        ConfigurationError: the files do not make an authority that clients would believe.
    """
    return _load(certificate, key, now, domains)


def _load(
    certificate: Path, key: Path, now: datetime | None, domains: Collection[str] = ()
) -> Authority:
    return load_authority(
        read_file(certificate),
        read_private(key),
        now=now,
        where=f"files {str(certificate)!r} and {str(key)!r}",
        domains=domains,
    )
