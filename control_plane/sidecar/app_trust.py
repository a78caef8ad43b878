"""Whom the app trusts: everybody that it trusted before, and our CA.

The rule of this module: our CA is added, and nothing is ever taken away. What the platform already
set (a company's own roots, say) is the base of what we set; where there is nothing to add to, the
variable is left alone, since our CA alone would cut the app off from the rest of the world.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.ca import java_trust_store
from control_plane.errors import ControlPlaneError
from control_plane.sidecar.directory import Credentials, SidecarDirectory

OUR_CA = "C2C_CA_FILE"
"""Our CA alone, for who wants to trust nobody else."""

REPLACING = (
    "SSL_CERT_FILE",  # OpenSSL, Python, Ruby, Go, .NET, rustls-native-certs
    "REQUESTS_CA_BUNDLE",  # requests, which has roots of its own without
    "CURL_CA_BUNDLE",  # curl, before SSL_CERT_FILE
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",  # gRPC for C++, Python, Ruby and PHP
)
"""Variables that name the only roots of a runtime."""

ADDING = "NODE_EXTRA_CA_CERTS"
"""A variable that names roots besides those that Node.js has."""

JAVA_OPTIONS = "JAVA_TOOL_OPTIONS"

STORE_PASSWORD = "changeit"  # noqa: S105 - Java's own default; it guards a public file
"""The password of the trust store, which is no secret."""

_JAVA_TRUST_STORE = "-Djavax.net.ssl.trustStore"

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL, Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine's OpenSSL
)


class AppTrust:
    """The files by which the app trusts our CA, and the variables that lead there."""

    def __init__(
        self,
        directory: SidecarDirectory,
        inherited: Mapping[str, str],
        system_roots: Sequence[str] = _SYSTEM_ROOTS,
    ) -> None:
        """Add to what these variables and the system say.

        Args:
            directory: where the files are written.
            inherited: the variables that the app would have without us.
            system_roots: where the system's roots may be; the first that exists counts.
        """
        self._directory = directory
        self._inherited = inherited
        self._system_roots = system_roots
        self._written = b""
        self._log = structlog.get_logger(__name__)

    def write(self, ca_pem: bytes) -> dict[str, str]:
        """Write every file for these CA certificates, and return the variables.

        Running apps read the files when they start; so does the next one.

        Raises:
            StorageError: a file could not be written.
        """
        variables = {OUR_CA: str(self._directory.ca_file)}
        system = self._read(*self._system_roots)
        if not system:
            self._left_alone("the system", "it has no root certificates to add to")
        for name in REPLACING:
            base = self._base(name) if self._inherited.get(name) else system
            if base:
                variables[name] = self._bundle(name, base, ca_pem)
        variables[ADDING] = variables[OUR_CA]
        if self._inherited.get(ADDING):
            variables[ADDING] = self._bundle(ADDING, self._base(ADDING), ca_pem)
        self._written = ca_pem
        return variables | self._java(system, ca_pem)

    def follow(self, credentials: Credentials) -> None:
        """Write the files again if the CA certificates are others than before."""
        if credentials.trust_bundle == self._written:
            return
        try:
            self.write(credentials.trust_bundle)
        except ControlPlaneError as error:
            self._log.error(log_events.TRUST_NOT_EXPORTED, reason=str(error))

    def _base(self, name: str) -> bytes:
        """Return the roots that a variable names already."""
        roots = self._read(self._inherited[name])
        if not roots:
            self._left_alone(name, "the file that it names cannot be read")
        return roots

    def _bundle(self, name: str, base: bytes, ca_pem: bytes) -> str:
        """Write base and ours into one file; variables with the same base share it."""
        is_own = bool(self._inherited.get(name))
        suffix = f"-{name.lower().replace('_', '-')}" if is_own else ""
        path = self._directory.path / f"roots{suffix}.pem"
        self._directory.write_public(path, base.rstrip(b"\n") + b"\n" + ca_pem)
        return str(path)

    def _java(self, system: bytes, ca_pem: bytes) -> dict[str, str]:
        given = self._inherited.get(JAVA_OPTIONS, "")
        if _JAVA_TRUST_STORE in given:
            self._left_alone(JAVA_OPTIONS, "it names a trust store already: import ca.pem there")
            return {}
        if not system:
            return {}
        path = self._directory.path / "roots.p12"
        store = java_trust_store(system + b"\n" + ca_pem, STORE_PASSWORD)
        self._directory.write_public(path, store)
        options = (
            f"{_JAVA_TRUST_STORE}={path}",
            f"{_JAVA_TRUST_STORE}Type=PKCS12",
            f"{_JAVA_TRUST_STORE}Password={STORE_PASSWORD}",
        )
        return {JAVA_OPTIONS: " ".join([given, *map(shlex.quote, options)]).strip()}

    def _read(self, *paths: str) -> bytes:
        """Return the first of these files that can be read and is not empty."""
        for path in paths:
            try:
                content = Path(path).read_bytes()
            except OSError:
                continue
            if content:
                return content
        return b""

    def _left_alone(self, name: str, why: str) -> None:
        self._log.warning(log_events.TRUST_NOT_EXPORTED, variable=name, reason=why)
