"""Envoy's admin interface on its Unix socket: what Envoy listens on, and how to drain and end it.

The rule of this module: an answer is never taken for more than a hint. An Envoy that is not running
has no listener, no request in flight and nothing to drain. Silence of an Envoy that is running
means nothing, unless it lasts: it is busy, and does what it was told when it gets to it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from pathlib import Path

from control_plane.names import shown

ANSWER_SECONDS = 2.0

_LARGEST_ANSWER = 1 << 24
"""In octets; the answer about thousands of listeners is smaller."""

_UCRED = struct.Struct("3i")
"""unix(7): process, user and group of the peer."""

_IN_FLIGHT = (
    r"^(http\.stats-.*\.downstream_rq_active|cluster\.service-cluster-.*\.upstream_rq_active)$"
)
"""Requests of HTTP listeners, and connections to the app: a plain TCP listener opens one of these
for each connection that it accepts."""

_UDP = "listener-udp-"
"""The prefix that ``envoy.udp`` gives to the names of its listeners; Envoy itself does not say
which protocol a listener is for."""


class EnvoyAdmin:
    """The admin interface of one Envoy."""

    def __init__(self, socket: Path) -> None:
        """Use this socket."""
        self._socket = socket

    async def drain(self) -> None:
        """Have Envoy send clients away: it closes connections after a request, HTTP/2 by GOAWAY.

        Raises:
            TimeoutError: Envoy was told, and has not answered yet.
            OSError: Envoy does not answer.
        """
        await self._ask("POST", "/drain_listeners?graceful")

    async def refuse(self) -> None:
        """Have Envoy accept no new connections; open ones go on.

        Raises:
            OSError: Envoy does not answer, or not yet.
        """
        await self._ask("POST", "/drain_listeners")

    async def in_flight(self) -> int | None:
        """Return how much is in flight between clients and the app; None if Envoy is slow."""
        try:
            answer = await self._ask("GET", f"/stats?filter={_IN_FLIGHT}")
            return sum(int(line.rpartition(": ")[2]) for line in answer.splitlines())
        except TimeoutError:
            return None
        except (OSError, ValueError):
            return 0

    async def listens_on(self, address: str, port: int) -> bool | None:
        """Tell whether a TCP port at an address is Envoy's own; None if Envoy does not say."""
        try:
            answer = json.loads(await self._ask("GET", "/listeners?format=json"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (OSError, ValueError):
            return None
        places = (
            each.get("local_address", {}).get("socket_address", {})
            for each in answer.get("listener_statuses", ())
            if not each.get("name", "").startswith(_UDP)
        )
        return any(
            (each.get("address"), each.get("port_value")) == (address, port) for each in places
        )

    async def is_silent(self) -> bool:
        """Tell whether an Envoy is running and does not answer."""
        try:
            await self._ask("GET", "/hot_restart_version")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
        return False

    async def restart_epoch(self) -> int:
        """Return how often this Envoy was replaced by hot restart.

        Raises:
            OSError: Envoy does not answer.
        """
        info = json.loads(await self._ask("GET", "/server_info"))
        return int(info["command_line_options"]["restart_epoch"])

    def pid(self) -> int:
        """Return the process number of this Envoy, which need not answer for that.

        Raises:
            OSError: no process listens, or the kernel cannot name it now.
        """
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(0)
            admin.connect(str(self._socket))
            peer = admin.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(peer)[0])

    async def quit(self) -> bool:
        """Have Envoy end at once; return False if none is running, which silence does not prove."""
        try:
            await self._ask("POST", "/quitquitquit")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
        return True

    async def _ask(self, method: str, path: str) -> str:
        """Return the body of an answer.

        Raises:
            OSError: there is no answer, or the answer is an error or too large.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                writer.write(
                    f"{method} {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n".encode()
                )
                head, _, body = (await _whole(reader)).partition(b"\r\n\r\n")
            finally:
                writer.transport.abort()
        status, *headers = head.decode("latin-1").split("\r\n")
        if " 200 " not in f"{status} ":
            raise OSError(f"Envoy answers {shown(status)} to {method} {path}")
        is_chunked = "transfer-encoding: chunked" in headers
        return (_joined(body) if is_chunked else body).decode("utf-8", "replace")


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the end of the connection.

    Raises:
        OSError: it is larger than any answer.
    """
    answer = bytearray()
    while piece := await reader.read(1 << 16):
        answer += piece
        if len(answer) > _LARGEST_ANSWER:
            raise OSError(f"Envoy answers with more than {_LARGEST_ANSWER} octets")
    return bytes(answer)


def _joined(chunks: bytes) -> bytes:
    """Return the body that chunks carry (RFC 9112, section 7.1)."""
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        chunks = rest[length + 2 :]
    return body
