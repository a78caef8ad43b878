"""Whom the app trusts: every CA that it trusted before, and ours.

The rule of this module: our CA is added, and no CA is ever taken away. The file that a variable of
the platform already names (a company's own roots, say) is the base of ours. Where there is nothing
to add to, the variable is left as it is, because our CA alone would cut the app off from the rest
of the world. The files have fixed names and exist whatever the variables say, so that programs
started by others can use them. A file that did not fit on the disk is tried again every minute,
without waiting for the next CA.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from control_plane import log_events
from control_plane.ca import JDK_PASSWORD, java_trust_store, read_java_trust_store
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError, InvalidArgument, StorageError
from control_plane.sidecar.directory import Credentials, SidecarDirectory
from control_plane.sidecar.race import first_of
from control_plane.sidecar.seldom import Seldom
from control_plane.store.files import write_public
from control_plane.undisturbed import undisturbed

ROOTS = "roots.pem"
"""The system's roots and our CA."""

JAVA_ROOTS = "roots.p12"
"""The roots of the JDK, or else of the system, and our CA."""

OUR_CA = "C2C_CA_FILE"
"""Our CA alone, for an app that wants to trust no other."""

AGAIN_SECONDS = 60.0
"""How long after a failed write the file is tried again."""

REPLACING = {
    # OpenSSL, Python, Ruby, Go, curl, .NET, rustls-native-certs
    "SSL_CERT_FILE": ("SSL_CERT_FILE",),
    # requests, which has roots of its own without either
    "REQUESTS_CA_BUNDLE": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # gRPC for C++, Python, Ruby and PHP
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",),
}
"""Variables that replace the roots of a runtime; for each, the variables the runtime reads, in
order."""

IF_SET = ("CURL_CA_BUNDLE",)
"""Variables that, where set, would hide the ones that we set; so we add our CA to their files."""

ADDING = "NODE_EXTRA_CA_CERTS"
"""A variable that names roots in addition to those that Node.js has."""

JAVA_OPTIONS = "JAVA_TOOL_OPTIONS"

_JAVA_TRUST_STORE = "-Djavax.net.ssl.trustStore"
_JDK_STORES = ("lib/security/jssecacerts", "lib/security/cacerts")

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL, Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine's OpenSSL
)

_Result = TypeVar("_Result")


class AppTrust:
    """The files by which the app trusts our CA, and the variables that point to them."""

    name = "app trust"

    def __init__(
        self,
        directory: SidecarDirectory,
        inherited: Mapping[str, str],
        system_roots: Sequence[str] = _SYSTEM_ROOTS,
        *,
        clock: Clock,
    ) -> None:
        """Start from the roots that these variables and the system name.

        Args:
            directory: where the files are written.
            inherited: the variables that the app would have without us.
            system_roots: where the system's roots may be; the first file that exists and is not
                empty counts.
            clock: times the next attempt after a failed one.
        """
        self._directory = directory
        self._inherited = inherited
        self._system_roots = system_roots
        self._clock = clock
        self._wanted = self._written = b""
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._seldom = Seldom(clock)
        self._log = structlog.get_logger(__name__)

    async def write(self, ca_pem: bytes) -> dict[str, str]:
        """Write every file for these CA certificates, and return the variables.

        An app reads the files when it starts, so they also serve an app that is started later.

        Raises:
            StorageError: a file could not be written, and there was none before.
        """
        self._wanted = ca_pem
        return await self._in_a_thread(partial(self._write_all, ca_pem))

    def follow(self, credentials: Credentials) -> None:
        """Have the files written again if the CA certificates have changed."""
        if credentials.trust_bundle != self._wanted:
            self._wanted = credentials.trust_bundle
            self._changed.set()

    async def run(self) -> None:
        """Write the files for new CA certificates, and retry failed writes, until cancelled."""
        while True:
            await first_of(self._changed.wait(), self._clock.sleep(AGAIN_SECONDS))
            self._changed.clear()
            if self._written != self._wanted:
                await self._in_a_thread(self._rewrite)

    async def _in_a_thread(self, write: Callable[[], _Result]) -> _Result:
        """Write outside the event loop, one after the other.

        Writing takes long enough to hold up DNS queries, and longer on a slow disk.
        """
        async with self._writing:
            return await undisturbed(asyncio.to_thread(write))

    def _write_all(self, ca_pem: bytes) -> dict[str, str]:
        self._written = ca_pem
        variables = {OUR_CA: str(self._directory.ca_file)}
        system = _first_content(self._system_roots)
        # First, because a variable may name this very file already.
        self._write(ROOTS, system, ca_pem)
        if not system:
            self._left_alone("SSL_CERT_FILE", "the system has no root certificates to add to")
        for name, looked_at in REPLACING.items():
            given = next((each for each in looked_at if self._inherited.get(each)), None)
            variables |= self._added(name, given, system, ca_pem)
        for name in IF_SET:
            if self._inherited.get(name):
                variables |= self._added(name, name, b"", ca_pem)
        variables[ADDING] = variables[OUR_CA]
        if self._inherited.get(ADDING):
            variables |= self._added(ADDING, ADDING, b"", ca_pem)
        variables |= self._java(system, ca_pem)
        return variables

    def _rewrite(self) -> None:
        had_failed = not self._written
        try:
            self._write_all(self._wanted)
        except ControlPlaneError as error:
            self._written = b""
            self._not_written(error)
        if had_failed and self._written:
            self._log.info(log_events.TRUST_EXPORTED)

    def _added(self, name: str, given: str | None, system: bytes, ca_pem: bytes) -> dict[str, str]:
        """Write the base and our CA into one file, and return the variable that names it.

        Args:
            name: the variable.
            given: the variable that already names a base; None takes the system's roots.
            system: the system's roots.
            ca_pem: our CA.
        """
        if given is None:
            return {name: str(self._directory.path / ROOTS)} if system else {}
        base = _first_content([self._inherited[given]])
        if not base:
            self._left_alone(name, f"the file that {given} names cannot be read")
            return {}
        file = f"roots-{given.lower().replace('_', '-')}.pem"
        return {name: self._write(file, base, ca_pem)}

    def _write(self, file: str, base: bytes, ca_pem: bytes) -> str:
        """Write the base and our CA into a file, and return its path."""
        path = self._directory.path / file
        self._replace(path, _joined(base, ca_pem))
        return str(path)

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file; if that fails, an older one will do until the next attempt."""
        try:
            write_public(path, data)
        except StorageError as error:
            self._written = b""
            if not path.exists():
                raise
            self._not_written(error)

    def _not_written(self, error: ControlPlaneError) -> None:
        reason = str(error)
        log = self._log.error if self._seldom.is_news(reason) else self._log.debug
        log(log_events.TRUST_NOT_EXPORTED, reason=reason)

    def _java(self, system: bytes, ca_pem: bytes) -> dict[str, str]:
        base = self._jdk_roots() or system
        path = self._directory.path / JAVA_ROOTS
        store = java_trust_store(_joined(base, ca_pem), JDK_PASSWORD)
        self._replace(path, store)
        given = self._inherited.get(JAVA_OPTIONS, "")
        if _JAVA_TRUST_STORE in given:
            self._left_alone(JAVA_OPTIONS, "it names a trust store already: import ca.pem there")
            return {}
        if not base:
            return {}
        options = (
            f"{_JAVA_TRUST_STORE}={path}",
            f"{_JAVA_TRUST_STORE}Type=PKCS12",
            f"{_JAVA_TRUST_STORE}Password={JDK_PASSWORD}",
        )
        return {JAVA_OPTIONS: " ".join([given, *map(shlex.quote, options)]).strip()}

    def _jdk_roots(self) -> bytes:
        """Return the roots that the app's JDK trusts; companies import their own roots there."""
        home = self._inherited.get("JAVA_HOME")
        if not home:
            java = shutil.which("java", path=self._inherited.get("PATH", ""))
            if java is None:
                return b""
            home = str(Path(java).resolve().parent.parent)
        store = _first_content([f"{home}/{each}" for each in _JDK_STORES])
        try:
            return read_java_trust_store(store) if store else b""
        except InvalidArgument as error:
            self._left_alone(JAVA_OPTIONS, f"roots of the JDK in {home}: {error.rule}")
            return b""

    def _left_alone(self, name: str, why: str) -> None:
        log = self._log.warning if self._seldom.is_news(f"{name}: {why}") else self._log.debug
        log(log_events.TRUST_NOT_EXPORTED, variable=name, reason=why)


def _joined(base: bytes, ca_pem: bytes) -> bytes:
    return base.rstrip(b"\n") + b"\n" + ca_pem if base else ca_pem


def _first_content(paths: Sequence[str]) -> bytes:
    """Return the first of these files that can be read and is not empty; b"" if none is."""
    for path in paths:
        with suppress(OSError):
            content = Path(path).read_bytes()
            if content:
                return content
    return b""
