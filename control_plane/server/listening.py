"""How a server begins to listen, and ends: with an address that it can have, whole or not at all.

The rule of this module: who cannot listen says why in the words of the operating system, and what
to do. gRPC tells neither, and asyncio not all since Python 3.13, so that the address is tried once
more, with a socket of ours. Neither a start nor a stop is ever interrupted: if its caller is
cancelled it is waited for all the same, and what was started by then is stopped.
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
    """Start a server that listens on an address, and return the port.

    Args:
        server: it was not started yet.
        address: ``host:port``, or ``unix:path``.
        credentials: its TLS; None for plaintext.
        setting: what to change where the address cannot be had.

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

    gRPC takes 443 where there is no port, and of one that is too large what is left of 65,536.

    Raises:
        ConfigurationError: the address is none, or cannot be listened on.
    """
    found = _HOST_AND_PORT.fullmatch(address)
    if not (address.startswith("unix:") or (found and int(found[1]) < 65_536)):
        neither = f"cannot listen on {address}: it is neither host:port nor unix:path"
        raise ConfigurationError([neither])
    port = await listen(server, address, credentials, setting="address")
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


async def start(server: grpc.aio.Server) -> None:
    """Start a server; one whose start is cancelled is stopped.

    What grpc.aio starts is a task of its own. It tells a future that it runs, and if that future is
    cancelled by then, it dies of it where nobody can catch it (grpcio 1.85, `_server_main_loop`).
    """
    try:
        await undisturbed(server.start())
    except asyncio.CancelledError:
        await server.stop(None)
        raise


async def stop(server: grpc.aio.Server, seconds: float) -> None:
    """Stop a server; its calls have so many seconds to end, also if this is cancelled meanwhile.

    Else they would never be cut: they would go on, and be answered, with nobody left to end them.
    """
    await undisturbed(server.stop(seconds))


def cannot_listen(address: str, number: int | None, setting: str) -> ConfigurationError:
    """Return what to say where an address cannot be listened on.

    Args:
        address: what was asked for.
        number: the ``errno`` that says why; None to find out.
        setting: what to change.
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
    """Return what the operating system has against an address."""
    if address.startswith("unix"):
        return None  # a socket of ours would be left there
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does it: what has ended holds no address.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except socket.gaierror:
        return None
    except OSError as error:
        return error.errno
    return None
