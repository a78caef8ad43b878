"""A rotation as one document, so that it is on the disk as a whole or not at all.

The rule of this module: the document holds private keys, and the caller keeps it secret. It is read
strictly, except for the validity of a CA that is leaving: that this CA has ended must not keep
anything from starting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509

from control_plane.ca.authority import Authority, public_pem
from control_plane.ca.loader import load_authority
from control_plane.ca.rotation import Rotation, Stage
from control_plane.errors import ConfigurationError


def authority_pem(authority: Authority) -> bytes:
    """Return a CA's private key, then its certificate and every certificate above it."""
    return authority.key.private_pem() + public_pem(authority.path)


def read_authority(pem: bytes, now: datetime | None, where: str = "") -> Authority:
    """Read what ``authority_pem`` wrote.

    Args:
        now: as in ``load_authority``; so is ``where``.

    Raises:
        ConfigurationError: clients would not believe the authority.
    """
    key, mark, certificates = pem.partition(_CERTIFICATE)
    return load_authority(mark + certificates, key, now=now, where=where)


def write_rotation(rotation: Rotation) -> bytes:
    """Return a rotation, keys included, as JSON."""
    cross = () if rotation.cross is None else (rotation.cross,)
    document = {
        "stage": rotation.stage.value,
        "since": rotation.since.isoformat(),
        "active": authority_pem(rotation.active).decode("ascii"),
        "other": authority_pem(rotation.other).decode("ascii") if rotation.other else "",
        "cross": public_pem(cross).decode("ascii"),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def read_rotation(data: bytes, now: datetime) -> Rotation:
    """Read what ``write_rotation`` wrote.

    Raises:
        ConfigurationError: it cannot be read, or the active CA is not valid.
    """
    try:
        document: Mapping[str, Any] = json.loads(data)
        stage = Stage(document["stage"])
        since = datetime.fromisoformat(document["since"])
        active = document["active"].encode("ascii")
        other = document["other"].encode("ascii")
        cross = document["cross"].encode("ascii")
        crossed = x509.load_pem_x509_certificate(cross) if cross else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"not the state of a CA rotation: {type(error).__name__}"
        raise ConfigurationError([problem]) from None
    return Rotation(
        stage,
        read_authority(active, now),
        since,
        other=read_authority(other, None) if other else None,
        cross=crossed,
    )


_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
