"""Which CAs were retired here, and so are no longer used although the settings name them.

The rule of this module: it knows only the settings that are passed to it, because the rules of the
settings call it.
"""

from __future__ import annotations

import os
from pathlib import Path

from control_plane.ca import read_certificate
from control_plane.errors import InvalidArgument
from control_plane.store.files import read_file, read_private

CA_FILE = "ca.pem"
"""The embedded CA in the data directory: its private key, then its certificates."""

RETIRED_FILE = "ca-retired.txt"
"""The fingerprints of the CAs that were retired; nothing in it is secret."""


def retired_fingerprints(data_dir: Path) -> set[str]:
    """Return the fingerprints of the CAs that were retired here.

    Raises:
        ConfigurationError: the file with the fingerprints cannot be read.
    """
    path = data_dir / RETIRED_FILE
    # A user without access to the directory gets an empty answer, and cannot run a server there.
    if not os.path.lexists(path):
        return set()
    return set(read_private(path).decode("ascii", "replace").split())


def why_not_used(certificate: Path | None, data_dir: Path) -> str:
    """Return why the CA that the settings name is not used, which is that it was retired; else "".

    Raises:
        ConfigurationError: a file cannot be read.
    """
    if certificate is None:
        return ""
    try:
        named = read_certificate(read_file(certificate)).fingerprint
    except InvalidArgument:
        return ""  # the code that reads both files reports everything that is wrong with them
    if named not in retired_fingerprints(data_dir):
        return ""
    return (
        "this CA was retired, so it is not used: remove the settings ca_cert and ca_key, or name "
        f"the files of the CA in {str(data_dir / CA_FILE)!r}"
    )
