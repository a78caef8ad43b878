"""DNS over UDP (RFC 1035, section 4.2.1).

The rule of this module: the socket is read whenever it has datagrams, because those that do not fit
into the kernel's buffer are lost, and neither reading nor writing ever waits.
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
"""How many datagrams are read before other tasks get their turn."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Starts a task; the provider of this function tracks it."""


class UdpListener:
    """Serves one socket."""

    def __init__(self, bound: socket.socket, resolver: Resolver, spawn: Spawn) -> None:
        """Serve a bound socket; `spawn` runs what has to wait."""
        self._socket = bound
        self._resolver = resolver
        self._spawn = spawn

    def start(self) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def stop(self) -> None:
        """Stop answering."""
        asyncio.get_running_loop().remove_reader(self._socket)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                wire, client = self._socket.recvfrom(MAX_MESSAGE_OCTETS)
            except OSError:  # no more datagrams, or the kernel reports the fate of an answer
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
            # Like a datagram that is lost on the way: the client asks again.
            return
