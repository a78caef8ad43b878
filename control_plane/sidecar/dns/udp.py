"""DNS over UDP (RFC 1035, section 4.2.1).

The rule of this module: the socket is emptied whenever there is something in it, since what does
not fit into the kernel's buffer is lost, and neither reading nor writing ever waits.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from control_plane.sidecar.dns.answer import Forward, Transport
from control_plane.sidecar.dns.message import MAX_MESSAGE_OCTETS
from control_plane.sidecar.dns.resolver import Resolver

_BATCH = 64
"""Datagrams that are read before others get their turn."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Starts a task that somebody else looks after."""


class UdpListener:
    """Serves one socket."""

    def __init__(self, bound: socket.socket, resolver: Resolver, spawn: Spawn) -> None:
        """Serve a socket that is bound; `spawn` runs what has to wait."""
        self._socket = bound
        self._resolver = resolver
        self._spawn = spawn

    def start(self) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def stop(self) -> None:
        """Answer no more."""
        asyncio.get_running_loop().remove_reader(self._socket)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                wire, client = self._socket.recvfrom(MAX_MESSAGE_OCTETS)
            except OSError:  # there is no more, or the kernel reports what became of an answer
                return
            answer = self._resolver.respond(wire, Transport.UDP)
            if isinstance(answer, Forward):
                self._spawn(self._forward(wire, answer, client))
            elif answer is not None:
                self._send(answer, client)

    async def _forward(self, wire: bytes, forward: Forward, client: object) -> None:
        self._send(await self._resolver.forward(wire, forward, Transport.UDP), client)

    def _send(self, answer: bytes, client: Any) -> None:  # noqa: ANN401 - what recvfrom returned
        try:
            self._socket.sendto(answer, client)
        except OSError:
            # As a datagram that is lost on the way: the client asks again.
            return
