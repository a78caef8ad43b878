"""The sidecar's directory: what outlives a restart, and what Envoy and the app read.

The rule of this module: private keys are in files of mode 0600 only, in a directory in which nobody
else can write, and each file is replaced whole. The identity is written last: a crash on the way
leaves the directory as it was, or without an identity that counts. What is written counts from
then on, also if a crash of the machine may undo it: Envoy reads it, and knows no other.
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
"""Octets that an identity takes at the most, with CA certificates and a copy of each file."""

_ENROLLMENT_FILE = "enrollment.json"
_IDENTITY_FILE = "identity.json"


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What was told besides the certificates; it stays as it is when those are renewed.

    Attributes:
        trusted_by: what the control plane was known by when the instance enrolled.
        xds_port: the port of discovery and renewal on that host.
        index: the number of the instance in its app.
        app_address: where Envoy reaches the app, as it was registered.
        app_ports: the ports of the app, as they were told last; empty where an older control plane
            tells of none.
        c2c_port: the one of them that 61443 leads to; likewise 0.
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
        """Read what ``text`` returned, also that of a newer release, which may say more.

        Raises:
            ValueError: it is no JSON.
            TypeError: it is something else, or less.
        """
        values = json.loads(text)
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{**known, "app_ports": tuple(known.get("app_ports", ()))})

    def text(self) -> bytes:
        """Return it as it is kept."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What this instance shows to the control plane, and by what it knows it.

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
    """Tell whether an earlier start left an identity in a directory, be it of use or not."""
    files = (path / _IDENTITY_FILE, path / _ENROLLMENT_FILE)
    return all(os.access(each, os.F_OK) for each in files)


class SidecarDirectory:
    """The files of one sidecar, which has them alone until ``close``.

    Attributes:
        inherited: open files without which Envoy does not find its admin socket.
    """

    def __init__(self, path: Path) -> None:
        """Make the directory if there is none, and take it.

        Raises:
            ConfigurationError: another sidecar has it, or it cannot be used.
        """
        self.path = path.absolute()
        # Not private: apps of other users read their trust stores here.
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
        """Leave the directory to others."""
        self._closing.close()

    def read(self) -> Membership | None:
        """Return what an earlier start left here, or None if that is nothing.

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
        """Return if an identity could be kept here.

        Raises:
            StorageError: the disk is full, or cannot be written to for another reason.
        """
        if reason := why_unwritable(self.path, _ROOM):
            raise StorageError(
                f"directory {shown(str(self.path))} cannot keep an identity: {reason}"
            )

    def write(self, membership: Membership) -> None:
        """Keep the outcome of an enrolment.

        Raises:
            StorageError: a file could not be written.
        """
        self.write_enrollment(membership.enrollment)
        self.write_credentials(membership.credentials)

    def write_enrollment(self, enrollment: Enrollment) -> None:
        """Replace what is known besides the credentials.

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
        """Write what Envoy starts with.

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
        """Return a path of the admin socket that is short enough for one.

        It is in this directory all the same, where the next start finds the Envoy of this one. A
        link to it in /tmp would be there for as long as nobody cleans that.
        """
        if len(bytes(socket)) <= MAX_SOCKET_PATH_OCTETS:
            return socket
        directory = os.open(self.path, os.O_PATH)
        self._closing.callback(os.close, directory)
        self.inherited = (directory,)
        return Path(f"/proc/self/fd/{directory}", ADMIN_SOCKET)


def _keep(path: Path, data: bytes, write: Callable[[Path, bytes], None] = write_private) -> None:
    """Replace a file; if a crash may undo that the log says so, and who runs goes on with it.

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
