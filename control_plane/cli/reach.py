"""Whether a server can be reached, tried before the first call.

The rule of this module: gRPC says "failed to connect to all addresses" whatever is wrong. A plain
connection can tell a missing socket from one without a listener, another CA from a wrong name, and
an expired certificate from an instance's. Each case becomes a sentence with what to do. A key that
other users may read is not used.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import NamedTuple

from control_plane.cli.errors import Failed
from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError
from control_plane.names import SERVER_NAME
from control_plane.settings import SocketAddress
from control_plane.store.files import check_private

SECONDS = 5.0
"""How long a server may take to accept a connection, and to greet."""

_OTHER_NAMES = (62, 64)
"""``X509_V_ERR_HOSTNAME_MISMATCH`` and ``X509_V_ERR_IP_ADDRESS_MISMATCH`` of OpenSSL."""

_NOT_VALID_NOW = (9, 10)
"""``X509_V_ERR_CERT_NOT_YET_VALID`` and ``X509_V_ERR_CERT_HAS_EXPIRED``."""

_NO_OPERATORS = "that is no operator's port (see --admin-address)"


class Away(Failed):
    """No server answers now; a caller with time may try again."""


class Credentials(NamedTuple):
    """PEM files: the operator's certificate and key, and the CA certificates to trust."""

    cert: Path
    key: Path
    ca: Path


def try_socket(path: Path) -> None:
    """Connect to a Unix socket and hang up.

    Raises:
        Away: no server answers there.
        Failed: this user may not connect.
    """
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(SECONDS)
            probe.connect(str(path))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise Away(
            f"no server answers at {path}: start one with 'c2c serve', set C2C_DATA_DIR, or "
            "C2C_SERVER if it is elsewhere"
        ) from None
    except BlockingIOError:  # as many wait there as may
        raise Away(
            f"the server at {path} takes no connections: it hangs, or somebody has stopped it "
            "(kill -CONT lets it go on)"
        ) from None
    except PermissionError:
        raise Failed(
            f"no permission to use {path}: only the user who runs the server has it"
        ) from None
    except OSError as error:
        raise Failed(f"cannot connect to {path}: {error}") from None


def try_tls(address: SocketAddress, credentials: Credentials, seconds: float | None = None) -> None:
    """Complete a handshake with a server, read its greeting and hang up.

    Args:
        seconds: how long each step may take; None for ``SECONDS``.

    Raises:
        Away: no server answers there.
        Failed: it cannot be trusted, or it does not trust us.
    """
    context, patience = _context(credentials), SECONDS if seconds is None else seconds
    try:
        with (
            _connected(address, patience) as raw,
            # Neither a certificate nor SNI has a name with a final dot (RFC 6066, section 3).
            context.wrap_socket(raw, server_hostname=address.host.removesuffix(".")) as tls,
        ):
            is_server = ("DNS", SERVER_NAME) in (tls.getpeercert() or {}).get("subjectAltName", ())
            is_greeted = is_server and _is_greeted(tls)
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(error, address, credentials.ca) from None
    except ssl.SSLEOFError as error:  # as from a proxy whose server is away
        raise Away(
            f"no TLS with the server at {address}: {_plain(error)}: it is away, or {_NO_OPERATORS}"
        ) from None
    except ssl.SSLError as error:
        raise Failed(
            f"no TLS with the server at {address}: {_plain(error)}: {_NO_OPERATORS}"
        ) from None
    except TimeoutError:
        raise Away(
            f"the server at {address} says nothing for {patience:g}s: it hangs, somebody has "
            f"stopped it (kill -CONT lets it go on), or {_NO_OPERATORS}"
        ) from None
    except socket.gaierror as error:
        raise Away(
            f"host name not found: {address.host}: {error.strerror}: set --server "
            "(C2C_SERVER) to the --admin-address of 'c2c serve'"
        ) from None
    except OSError as error:
        raise Away(
            f"no server answers at {address}: {error.strerror}: start one with 'c2c serve "
            "--admin-address' there, or set --server (C2C_SERVER)"
        ) from None
    if not is_server:
        raise Failed(
            f"the server at {address} cannot be trusted: the right CA signed its certificate, "
            "but it is not that of a control plane, and may be that of an app"
        )
    if not is_greeted:
        raise Failed(
            f"the server at {address} does not take {credentials.cert}: it has to be a valid "
            "operator's certificate of the server's CA (c2c issue-operator-cert makes one)"
        )


def _connected(address: SocketAddress, seconds: float) -> socket.socket:
    """Return a connection.

    Raises:
        Away: nothing comes back.
        OSError: something else is wrong.
    """
    try:
        return socket.create_connection((address.host, address.port), seconds)
    except TimeoutError:
        raise Away(
            f"no answer from {address} within {seconds:g}s: a firewall is on the way, or that "
            "machine is away"
        ) from None


def _untrusted(error: ssl.SSLCertVerificationError, address: SocketAddress, ca: Path) -> Failed:
    if error.verify_code in _OTHER_NAMES:
        return Failed(
            f"the server at {address} has no certificate for {address.host}: use a name that "
            "'c2c serve' has as --server-name, or add this one there"
        )
    if error.verify_code in _NOT_VALID_NOW:
        return Failed(
            f"the server at {address} cannot be trusted: {error.verify_message}, and the clock of "
            f"this machine says {SystemClock().now():%Y-%m-%dT%H:%M:%SZ}: set the clock here, or "
            f"there, if one is wrong; else {ca} is too old (c2c trust-bundle prints it)"
        )
    return Failed(
        f"the server at {address} cannot be trusted: {error.verify_message}: {ca} has to be its "
        "CA (c2c trust-bundle prints it)"
    )


def _is_greeted(tls: ssl.SSLSocket) -> bool:
    """Tell whether the server sends its settings (RFC 9113, section 3.4).

    In TLS 1.3 it refuses a client's certificate only after the handshake, by an alert or by
    hanging up (RFC 8446, section 4.4.2.4).
    """
    try:
        return bool(tls.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.ca)
    except ssl.SSLError as error:
        raise Failed(f"no certificates in PEM in {credentials.ca}: {_plain(error)}") from None
    except OSError as error:
        raise Failed(f"cannot read {credentials.ca}: {error.strerror}") from None
    context.set_alpn_protocols(["h2"])
    try:
        check_private(credentials.key)
    except ConfigurationError as error:
        raise Failed(str(error)) from None
    try:
        context.load_cert_chain(credentials.cert, credentials.key)
    except ssl.SSLError as error:
        raise Failed(
            f"files {credentials.cert} and {credentials.key} are no certificate and its key in "
            f"PEM: {_plain(error)}"
        ) from None
    except OSError as error:
        raise Failed(f"cannot read {credentials.cert}: {error.strerror}") from None
    return context


def _plain(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
