"""One address on which DNS is served, over UDP and over TCP.

The rule of this module: both or neither. A client that was told over UDP to use TCP finds the same
server there. An address that cannot be bound is an error that says what to do.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import structlog

from control_plane import log_events
from control_plane.errors import ConfigurationError
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.resolver import Resolver
from control_plane.sidecar.dns.tcp import TcpLimits, serve_connection
from control_plane.sidecar.dns.udp import UdpListener

_RECEIVE_OCTETS = 1024 * 1024
"""Buffer for queries that arrive while the process is busy; the kernel may grant less."""

_ATTEMPTS = 16
"""How many free UDP ports are tried, because the TCP port of the same number may be taken."""

_ADVICE = {
    errno.EADDRINUSE: "another DNS server has this address: choose another one or another port",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: grant it or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have the address: choose one that it has",
}


def check_listen(listen: SocketAddress) -> None:
    """Return if DNS could be served there now.

    Raises:
        ConfigurationError: it could not; the message says what to do.
    """
    _check_single(listen)
    for each in _pair(listen, _ATTEMPTS):
        each.close()


class DnsServer:
    """Serves the answers of a resolver."""

    def __init__(
        self, listen: SocketAddress, resolver: Resolver, limits: TcpLimits | None = None
    ) -> None:
        """Describe a server; `listening` starts and stops it.

        Args:
            listen: an IP address and a port, 0 for any that is free.
            resolver: has the answers.
            limits: limits on TCP clients.

        Raises:
            ConfigurationError: no single address is given. An answer has to leave from the address
                that was asked, and who can ask this server has to be a decision.
        """
        _check_single(listen)
        self.address = listen
        self._resolver = resolver
        self._limits = limits or TcpLimits()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger(__name__)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve as long as the context lasts; `address` then has the port that was bound.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        with ExitStack() as sockets:
            udp, tcp = _pair(self.address, _ATTEMPTS)
            sockets.enter_context(udp)
            sockets.enter_context(tcp)
            self.address = SocketAddress(self.address.host, udp.getsockname()[1])
            listener = UdpListener(udp, self._resolver, self._spawn)
            server = await asyncio.start_server(self._accept, sock=tcp)
            listener.start()
            self._log.info(log_events.DNS_STARTED, address=str(self.address))
            if not ipaddress.ip_address(self.address.host).is_loopback:
                self._log.warning(
                    log_events.DNS_EXPOSED,
                    address=str(self.address),
                    reason="whoever reaches this address learns this app's names, and asks your "
                    "resolvers through it: serve DNS on 127.0.0.1 unless others are to ask",
                )
            try:
                yield
            finally:
                listener.stop()
                server.close()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error(log_events.CALL_FAILED, exc_info=error)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.connections:
            writer.transport.abort()
            return
        task = self._spawn(serve_connection(reader, writer, self._resolver, self._limits))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


def _check_single(listen: SocketAddress) -> None:
    try:
        is_single = not ipaddress.ip_address(listen.host).is_unspecified
    except ValueError:  # a name
        is_single = False
    if not is_single:
        raise ConfigurationError(
            [f"DNS is served on one address, which {listen.host} is not: name the one to use"]
        )


def _pair(address: SocketAddress, attempts: int) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket bound to the same address and port.

    Raises:
        ConfigurationError: they cannot be bound.
    """
    try:
        udp = _bound(socket.SOCK_DGRAM, address)
        try:
            port = udp.getsockname()[1]
            return udp, _bound(socket.SOCK_STREAM, SocketAddress(address.host, port))
        except OSError:
            udp.close()
            raise
    except OSError as error:
        # A port that was free for UDP may be taken for TCP.
        if error.errno == errno.EADDRINUSE and not address.port and attempts > 1:
            return _pair(address, attempts - 1)
        advice = _ADVICE.get(error.errno or 0, "choose another address or port")
        raise ConfigurationError(
            [f"cannot serve DNS on {address}: {error.strerror}; {advice}"]
        ) from error


def _bound(kind: socket.SocketKind, address: SocketAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    new = socket.socket(family, kind)
    try:
        new.settimeout(0)
        if kind is socket.SOCK_STREAM:
            # A connection that was just closed must not prevent a new server from binding.
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_OCTETS)
        new.bind((address.host, address.port))
    except OSError:
        new.close()
        raise
    return new
