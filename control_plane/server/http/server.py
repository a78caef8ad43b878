"""The HTTP port: whether the process lives, whether it serves, and what it measures.

The rule of this module: the port answers GET and HEAD for a few paths to anybody who can connect.
Therefore it reads little, waits briefly, and closes each connection after its answer (RFC 9112).
Answers are made on the event loop, where the values that they count do not change meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from control_plane.server.http.connections import Connections
from control_plane.server.listening import cannot_listen

REQUEST_SECONDS = 5.0
"""How long a request may take to arrive."""

MAX_HEAD_OCTETS = 16_384
MAX_CONNECTIONS = 64
"""The oldest gives way to one more: else whoever holds as many and says nothing on them would have
a platform believe that this process is dead."""

TEXT = "text/plain; charset=utf-8"

_ABSOLUTE = re.compile(r"https?://[^/?]+", re.IGNORECASE)
"""The part before the path in the absolute form: a scheme, and a host that is not empty."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for a path."""

    status: HTTPStatus
    body: bytes
    media_type: str = TEXT


Route = Callable[[Mapping[str, str]], Answer]
"""Answers a request for a path, given its headers by their names in lower case."""


def path_of(target: str) -> str:
    """Return the path of a request's target; it begins with a slash, unless the target has none.

    Clients send the absolute form to proxies, and "a server MUST accept the absolute-form in
    requests" (RFC 9112, section 3.2.2). Which host it names does not matter, and neither does
    ``Host``.
    """
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target.partition("?")[0]
    return target[absolute.end() :].partition("?")[0] or "/"


class HttpServer:
    """Serves some paths."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        """Take the paths; nothing listens yet."""
        self._routes = routes
        self._connections = Connections(self._serve, most=MAX_CONNECTIONS, oldest_gives_way=True)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        Args:
            host: an IP address.
            port: 0 for any that is free.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        try:
            return await self._connections.listen(host, port, limit=MAX_HEAD_OCTETS)
        except OSError as error:
            shown = f"[{host}]" if ":" in host else host
            raise cannot_listen(f"{shown}:{port}", error.errno, "http_address") from error

    async def stop(self) -> None:
        """Stop listening, and end the open connections."""
        await self._connections.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._response(head))
        except asyncio.LimitOverrunError:
            writer.write(_message(_told(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)))
        except asyncio.IncompleteReadError:  # the client has nothing more to ask
            writer.transport.abort()

    def _response(self, head: bytes) -> bytes:
        request, _, rest = head.decode("latin-1").partition("\r\n")
        method, _, target = request.rpartition(" ")[0].partition(" ")
        path = path_of(target)
        if not path.startswith("/") or not request.rpartition(" ")[2].startswith("HTTP/1."):
            return _message(_told(HTTPStatus.BAD_REQUEST))
        if method not in ("GET", "HEAD"):
            return _message(_told(HTTPStatus.METHOD_NOT_ALLOWED), ("Allow: GET, HEAD",))
        route = self._routes.get(path)
        answer = _told(HTTPStatus.NOT_FOUND) if route is None else route(_headers(rest))
        return _message(answer, with_body=method == "GET")


def _headers(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.split("\r\n"))
    return {name.lower(): value.strip() for name, _, value in pairs}


def _told(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())


def _message(answer: Answer, headers: tuple[str, ...] = (), *, with_body: bool = True) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.media_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *headers,
        "",
        "",
    )
    return "\r\n".join(lines).encode("latin-1") + (answer.body if with_body else b"")
