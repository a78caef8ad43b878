"""How a server starts to listen, and stops: either with an address that it can have, or not at all.

The rule of this module: a server that cannot listen says why, in the words of the operating system,
and what to do about it. gRPC tells neither, and asyncio no longer all of it since Python 3.13, so
the address is tried once more with a socket of ours. Neither a start nor a stop is ever
interrupted: if its caller is cancelled, it is completed all the same, and what was started is
stopped.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket

import grpc

from control_plane.errors import ConfigurationError
from control_plane.undisturbed import undisturbed

_HOST_AND_PORT = re.compile(r"(?:\[[^]]+\]|[^][:]+):(\d{1,5})", re.ASCII)


async def listen(
    server: grpc.aio.Server,
    address: str,
    credentials: grpc.ServerCredentials | None,
    *,
    setting: str,
) -> int:
    """Start a server that listens on an address, and return its port.

    Args:
        server: a server that was not started yet.
        address: ``host:port``, or ``unix:path``.
        credentials: its TLS; None for plaintext.
        setting: the setting to change if the address cannot be listened on.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise cannot_listen(address, None, setting) from error
    await start(server)
    return port


async def listen_at(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None
) -> str:
    """Start a server, and return its address with the port that it got.

    Without the checks here, gRPC would take port 443 if the address has no port, and for a port
    that is too large the remainder modulo 65,536.

    Raises:
        ConfigurationError: the address is malformed, or cannot be listened on.
    """
    found = _HOST_AND_PORT.fullmatch(address)
    if not (address.startswith("unix:") or (found and int(found[1]) < 65_536)):
        neither = f"cannot listen on {address}: it is neither host:port nor unix:path"
        raise ConfigurationError([neither])
    port = await listen(server, address, credentials, setting="address")
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


async def start(server: grpc.aio.Server) -> None:
    """Start a server; if the start is cancelled, the server is stopped.

    grpc.aio starts the server in a task of its own, which sets the result of a future once the
    server runs. If that future has been cancelled by then, the task dies where nobody can catch the
    exception (grpcio 1.85, `_server_main_loop`).
    """
    try:
        await undisturbed(server.start())
    except asyncio.CancelledError:
        await server.stop(None)
        raise


async def stop(server: grpc.aio.Server, seconds: float) -> None:
    """Stop a server; its calls have this many seconds to end, even if this is cancelled meanwhile.

    Otherwise they would never be cut: they would go on, and be answered, with nothing left to end
    them.
    """
    await undisturbed(server.stop(seconds))


def cannot_listen(address: str, number: int | None, setting: str) -> ConfigurationError:
    """Return the error for an address that cannot be listened on.

    Args:
        address: the address that was asked for.
        number: the ``errno`` that says why; None to find out.
        setting: the setting to change.
    """
    number = number or _errno(address)
    match number:
        case errno.EADDRINUSE:
            what_to_do = f"end what listens there ('ss -lntp' shows it), or set another {setting}"
        case errno.EADDRNOTAVAIL:
            everywhere = "[::]" if address.startswith("[") else "0.0.0.0"  # noqa: S104 - advice
            what_to_do = (
                f"set {setting} to an address that this machine has, or to {everywhere} for all of "
                "them"
            )
        case errno.EACCES:
            what_to_do = f"set {setting} to a port from 1024 on, or allow CAP_NET_BIND_SERVICE"
        case _:
            what_to_do = f"set another {setting}"
    why = os.strerror(number).lower() if number else "it cannot be had"
    return ConfigurationError([f"cannot listen on {address}: {why}: {what_to_do}"])


def _errno(address: str) -> int | None:
    """Return the error that the operating system has for an address."""
    if address.startswith("unix"):
        return None  # a probe would leave its socket there
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: a socket that was closed does not hold the address.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except socket.gaierror:
        return None
    except OSError as error:
        return error.errno
    return None
