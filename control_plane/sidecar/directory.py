"""The sidecar's directory: what outlives a restart, and what Envoy and the app read.

The rule of this module: private keys are only in files of mode 0600, in a directory in which no
other user can write, and each file is replaced whole. The identity is written last, so a crash on
the way leaves the directory as it was, or without a valid identity. What is written counts from
then on, even if a crash of the machine may undo it, because Envoy reads it and knows nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

import structlog

from control_plane import log_events
from control_plane.ca import load_key_pair, read_certificates
from control_plane.envoy import bootstrap
from control_plane.errors import InvalidArgument, NotDurable, StorageError
from control_plane.names import shown
from control_plane.settings.conflicts import MAX_SOCKET_PATH_OCTETS
from control_plane.sidecar.identity import HeldIdentity, hold
from control_plane.store.files import (
    guarded_directory,
    read_private,
    why_unwritable,
    write_private,
    write_public,
)
from control_plane.store.lock import DirectoryLock

ADMIN_SOCKET = "admin.sock"
NAMES_FILE = "names.pb"

_ROOM = 1 << 17
"""Octets that an identity takes at most, with CA certificates and a copy of each file."""

_ENROLLMENT_FILE = "enrollment.json"
_IDENTITY_FILE = "identity.json"


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What the control plane told besides the certificates; renewing these does not change it.

    Attributes:
        trusted_by: by what the sidecar knew the control plane when the instance enrolled.
        xds_port: the port of discovery and renewal on the host of the control plane.
        index: the number of the instance in its app.
        app_address: where Envoy reaches the app, as registered.
        app_ports: the ports of the app, as told last; empty if an older control plane tells none.
        c2c_port: the port among them that 61443 leads to; 0 if an older control plane tells none.
    """

    trusted_by: str
    instance_guid: str
    xds_port: int
    index: int
    app_address: str
    app_ports: tuple[int, ...] = ()
    c2c_port: int = 0

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read what ``text`` returned, also in a newer release, which may write more fields.

        Raises:
            ValueError: it is not JSON.
            TypeError: it is something else, or lacks a field.
        """
        values = json.loads(text)
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{**known, "app_ports": tuple(known.get("app_ports", ()))})

    def text(self) -> bytes:
        """Return the content of its file."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What this instance shows to the control plane, and by what it verifies the control plane.

    Attributes:
        trust_bundle: the CA certificates to trust, PEM.
    """

    identity: HeldIdentity
    trust_bundle: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Membership:
    """Everything that makes this an instance of its app."""

    enrollment: Enrollment
    credentials: Credentials


def has_identity(path: Path) -> bool:
    """Tell whether an earlier start left an identity in a directory, usable or not."""
    files = (path / _IDENTITY_FILE, path / _ENROLLMENT_FILE)
    return all(os.access(each, os.F_OK) for each in files)


class SidecarDirectory:
    """The files of one sidecar, which has them to itself until ``close``.

    Attributes:
        inherited: file descriptors that Envoy must inherit to find its admin socket.
    """

    def __init__(self, path: Path) -> None:
        """Create the directory if there is none, and lock it.

        Raises:
            ConfigurationError: another sidecar has it, or it cannot be used.
        """
        self.path = path.absolute()
        # Not private, because an app that runs as another user reads its trust stores here.
        guarded_directory(self.path)
        self._closing = ExitStack()
        self._closing.callback(DirectoryLock(self.path).release)
        self._enrollment = self.path / _ENROLLMENT_FILE
        self._identity = self.path / _IDENTITY_FILE
        self._trust = self.path / "trust.json"
        self.ca_file = self.path / "ca.pem"
        self.bootstrap_file = self.path / "bootstrap.yaml"
        self.inherited: tuple[int, ...] = ()
        self.admin_socket = self._short_enough(self.path / ADMIN_SOCKET)

    def close(self) -> None:
        """Unlock the directory."""
        self._closing.close()

    def read(self) -> Membership | None:
        """Return what an earlier start left here, or None if it left nothing.

        Raises:
            InvalidArgument: it cannot be read, or its parts do not belong together.
            ConfigurationError: others may have read the private key.
        """
        if not has_identity(self.path):
            return None
        try:
            enrollment = Enrollment.read(read_private(self._enrollment))
            identity = _read_identity(read_private(self._identity))
            trust_bundle = self.ca_file.read_bytes()
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise InvalidArgument(
                f"directory {shown(str(self.path))} has no complete identity: {error}"
            ) from None
        if enrollment.instance_guid != identity.instance_guid:
            raise InvalidArgument(
                f"directory {shown(str(self.path))} has the identity of another instance than the "
                "one that enrolled"
            )
        read_certificates(trust_bundle)
        return Membership(enrollment, Credentials(identity, trust_bundle))

    def check_room(self) -> None:
        """Return if the disk has room for an identity.

        Raises:
            StorageError: the disk is full, or cannot be written to for another reason.
        """
        if reason := why_unwritable(self.path, _ROOM):
            raise StorageError(
                f"directory {shown(str(self.path))} cannot keep an identity: {reason}"
            )

    def write(self, membership: Membership) -> None:
        """Store the outcome of an enrolment.

        Raises:
            StorageError: a file could not be written.
        """
        self.write_enrollment(membership.enrollment)
        self.write_credentials(membership.credentials)

    def write_enrollment(self, enrollment: Enrollment) -> None:
        """Replace what is stored besides the credentials.

        Raises:
            StorageError: it could not be written.
        """
        _keep(self._enrollment, enrollment.text())

    def write_credentials(self, credentials: Credentials) -> None:
        """Replace the credentials; Envoy uses the new ones from its next connection on.

        Raises:
            StorageError: a file could not be written.
        """
        identity = credentials.identity
        bundle = credentials.trust_bundle
        _keep(self._trust, bootstrap.trust_file(bundle.decode()).encode())
        _keep(self.ca_file, bundle, write_public)
        chain, key = identity.chain_pem.decode(), identity.key.private_pem().decode()
        _keep(self._identity, bootstrap.identity_file(chain, key).encode())

    def write_bootstrap(self, membership: Membership, host: str, limits: bootstrap.Limits) -> None:
        """Write Envoy's bootstrap.

        Raises:
            StorageError: it could not be written.
        """
        identity = membership.credentials.identity
        text = bootstrap.render(
            identity.instance_guid,
            xds_address=host,
            xds_port=membership.enrollment.xds_port,
            admin_socket=self.admin_socket,
            tls=bootstrap.XdsIdentity(self._identity, self._trust, identity.server_uri),
            limits=limits,
        )
        _keep(self.bootstrap_file, text.encode())

    def _short_enough(self, socket: Path) -> Path:
        """Return a path of the admin socket that is short enough for a socket address.

        The socket is in this directory all the same, where the next start finds the Envoy of this
        one. A link to it in /tmp would stay until somebody cleans /tmp.
        """
        if len(bytes(socket)) <= MAX_SOCKET_PATH_OCTETS:
            return socket
        directory = os.open(self.path, os.O_PATH)
        self._closing.callback(os.close, directory)
        self.inherited = (directory,)
        return Path(f"/proc/self/fd/{directory}", ADMIN_SOCKET)


def _keep(path: Path, data: bytes, write: Callable[[Path, bytes], None] = write_private) -> None:
    """Replace a file; if a crash of the machine may undo that, log it and go on.

    Raises:
        StorageError: it could not be written.
    """
    try:
        write(path, data)
    except NotDurable as error:
        structlog.get_logger(__name__).error(log_events.IDENTITY_NOT_DURABLE, reason=str(error))


def _read_identity(data: bytes) -> HeldIdentity:
    """Read what ``bootstrap.identity_file`` wrote."""
    secret: Mapping[str, Mapping[str, str]] = json.loads(data)["resources"][0]["tls_certificate"]
    chain = secret["certificate_chain"]["inline_string"]
    key = secret["private_key"]["inline_string"]
    return hold(chain.encode(), load_key_pair(key.encode()))
