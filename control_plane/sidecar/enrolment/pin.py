"""Which server to accept as the control plane, before anything secret is sent.

The rule of this module: trust is never taken on faith. With a fingerprint, the server first shows
its certificates on a connection on which nothing is sent to it. The certificate with the
fingerprint then becomes the only root, and only a chain that ends there and has the control plane's
name passes. An impostor that presents a genuine, public CA certificate beside a chain of its own
gains nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from control_plane.ca import fingerprint as fingerprint_of
from control_plane.ca import read_certificate, read_certificates
from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.names import SERVER_NAME, shown
from control_plane.settings import SocketAddress
from control_plane.settings.values import format_duration

HANDSHAKE_SECONDS = 10.0

NEXT_ADDRESS_SECONDS = 0.25
"""After how long the next address of the server is tried as well (RFC 8305, section 5)."""

WRONG_PORT = "is that the port of --enroll-address, by default 18001? 18000 is the one of xDS"
"""Both ports show the same certificate, and the port of xDS hangs up on a client without one. The
ports of metrics and of the operator's commands show no certificate, or hang up sooner."""

_NOT_VALID_NOW = (9, 10)
"""OpenSSL's ``X509_V_ERR_CERT_NOT_YET_VALID`` and ``X509_V_ERR_CERT_HAS_EXPIRED``."""


class Proven(NamedTuple):
    """A server that proved who it is.

    Attributes:
        roots: the CA certificates under which it did, PEM.
        server: the address at which it answered.
        source: the address of this machine from which it was reached.
    """

    roots: bytes
    server: SocketAddress
    source: str


async def pinned(server: SocketAddress, fingerprint: str) -> Proven:
    """Return the server once it proved to be under the CA certificate with this fingerprint.

    Args:
        fingerprint: as ``parse_fingerprint`` returns it.

    Raises:
        OSError: the server cannot be reached, or does not speak TLS.
        ConfigurationError: it is another server.
    """
    for der in await _shown_chain(server):
        if hmac.compare_digest(fingerprint_of(der), fingerprint):
            return await verify(server, ssl.DER_cert_to_PEM_cert(der).encode())
    problem = (
        f"server {server} shows no CA certificate with the fingerprint {fingerprint}, so the join "
        "token was not sent: it is another server, or the fingerprint is of another CA"
    )
    raise ConfigurationError([problem])


def roots_from_file(path: Path) -> bytes:
    """Return the certificates of a PEM file.

    Raises:
        ConfigurationError: the file cannot be read, or contains none.
    """
    try:
        pem = path.read_bytes()
        read_certificates(pem)
    except OSError as error:
        problem = f"CA file {shown(str(path))} cannot be read: {error.strerror}"
        raise ConfigurationError([problem]) from error
    except InvalidArgument as error:
        raise ConfigurationError([f"CA file {shown(str(path))}: {error.rule}"]) from error
    return pem


async def verify(server: SocketAddress, roots: bytes) -> Proven:
    """Return the server once it proved in a handshake to be a control plane under these roots.

    gRPC reports a failed handshake like a server that is down; here the two are told apart.

    Raises:
        OSError: the server cannot be reached, or does not speak TLS.
        ConfigurationError: it is another server.
    """
    context = _context()
    context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
    # The pinned root may be an intermediate CA of the operator's own PKI.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        met = await _handshake(server, context)
    except ssl.SSLCertVerificationError as error:
        problem = (
            f"server {server} is not the control plane under the trusted CA, so the join token was "
            f"not sent: {error.verify_message}"
        )
        if error.verify_code in _NOT_VALID_NOW:
            problem = await _clock_problem(server) or problem
        raise ConfigurationError([problem]) from None
    return Proven(roots, met.server, met.source)


async def _clock_problem(server: SocketAddress) -> str:
    """Return how far the clock here is outside the validity of the server's certificate.

    The control plane renews its certificate in time, so one of the two clocks is wrong. The result
    is "" if the certificate is valid by this clock: then a CA certificate above it is not.
    """
    leaf = read_certificate((await _shown_chain(server))[0])
    # Other code takes a clock as an argument, but OpenSSL uses the clock of the machine.
    now = SystemClock().now()
    if now < leaf.not_before:
        distance, side = leaf.not_before - now, "before the begin"
    elif now >= leaf.not_after:
        distance, side = now - leaf.not_after, "after the end"
    else:
        return ""
    distance = timedelta(seconds=round(distance.total_seconds()))
    return (
        f"clock of this machine says {_moment(now)}, which is {format_duration(distance)} {side} "
        f"of the certificate of server {server} (valid from {_moment(leaf.not_before)} to "
        f"{_moment(leaf.not_after)}), so the join token was not sent: set the clock here, or on "
        "the server if that one is wrong"
    )


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


async def _shown_chain(server: SocketAddress) -> list[bytes]:
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return (await _handshake(server, context)).chain


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])  # without ALPN, gRPC's servers hang up
    return context


class _Handshake(NamedTuple):
    """The chain that a server showed (DER), the address of the server, and our own address."""

    chain: list[bytes]
    server: SocketAddress
    source: str


async def _handshake(server: SocketAddress, context: ssl.SSLContext) -> _Handshake:
    """Complete a handshake with a server, and hang up."""
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(
                server.host,
                server.port,
                ssl=context,
                server_hostname=SERVER_NAME,
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            )
    except TimeoutError as error:
        # The TimeoutError that asyncio raises has no text at all.
        silent = f"no answer from {server} within {HANDSHAKE_SECONDS:g} s"
        raise TimeoutError(str(error) or silent) from error
    except ssl.SSLCertVerificationError:
        raise
    except (ConnectionResetError, ssl.SSLError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) else "the server hung up"
        raise ConnectionResetError(f"no TLS handshake: {why} ({WRONG_PORT})") from error
    try:
        host, port, *rest = writer.get_extra_info("peername")
        # Without its zone, which Python tells apart, a link-local address leads nowhere (RFC 4007).
        if zone := rest[1] if rest else 0:
            host = f"{host}%{zone}"
        source, *_ = writer.get_extra_info("sockname")
        chain = _presented(writer.get_extra_info("ssl_object"))
        return _Handshake(chain, SocketAddress(host, port), source)
    finally:
        writer.transport.abort()


def _presented(tls: ssl.SSLObject) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return tls.get_unverified_chain()
    # Public only since Python 3.13, but there since 3.10.
    chain = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]
