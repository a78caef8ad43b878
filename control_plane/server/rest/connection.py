"""One connection of an HTTP/1.1 server that answers POST: h11, with bounds.

The rule of this module: h11 implements HTTP, and this module bounds what a client may cost. A
request must be short and arrive in time. A connection is kept for further requests, but not for
ever. A client that breaks a bound is told which, and its connection is closed; the connection of a
client that is too slow is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from control_plane.server.http.server import Answer, path_of

IDLE_SECONDS = 300.0
"""How long a connection may wait for its next request. Clients that poll send one every few
seconds; a client that vanished without a word is given up then."""

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Posted:
    """A request that was read to its end."""

    path: str
    body: bytes


class Refused(Exception):
    """A request that is not processed, and after which the connection is closed."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        """Say why it is refused."""
        super().__init__(reason)
        self.status = status


class HttpConnection:
    """One connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handle: Callable[[Posted], Awaitable[Answer]],
        *,
        most_octets: int,
        seconds: float,
    ) -> None:
        """Answer requests with ``handle``.

        Args:
            reader: what comes from the client.
            writer: what goes to the client.
            handle: answers a request.
            most_octets: how long the body of a request may be.
            seconds: how long a request may take to arrive, and then its answer to be sent.
        """
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._most_octets = most_octets
        self._seconds = seconds
        self._http = h11.Connection(h11.SERVER)
        self._is_head = False

    async def run(self) -> None:
        """Answer requests until the client has no more, or sends one that is refused.

        Raises:
            OSError: the connection broke, or the client was too slow.
        """
        patience = self._seconds
        try:
            while (request := await self._request(patience)) is not None:
                await self._send(await self._handle(request))
                if self._http.our_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
                patience = IDLE_SECONDS
        except h11.RemoteProtocolError as error:
            await self._hang_up(HTTPStatus(error.error_status_hint), str(error))
        except Refused as error:
            await self._hang_up(error.status, str(error))

    async def _request(self, patience: float) -> Posted | None:
        """Return the next request; None if there is none.

        Args:
            patience: how many seconds to wait for its first octet.
        """
        async with asyncio.timeout(patience) as limit:
            if not self._http.trailing_data[0]:
                await self._receive()
            limit.reschedule(asyncio.get_running_loop().time() + self._seconds)
            head = await self._event()
            if not isinstance(head, h11.Request):
                return None
            self._is_head = head.method == b"HEAD"
            if head.method != b"POST":
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "POST is the only method")
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
            return Posted(path_of(head.target.decode("ascii")), await self._body())

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > self._most_octets:
                raise Refused(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"a body has {self._most_octets} octets at the most",
                )
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive()
        return event

    async def _receive(self) -> None:
        self._http.receive_data(await self._reader.read(_CHUNK))

    async def _send(self, answer: Answer, *headers: tuple[str, str]) -> None:
        head = [("Cache-Control", "no-store"), *headers]
        if answer.status is not HTTPStatus.NOT_MODIFIED:
            length = str(len(answer.body))
            head += [("Content-Type", answer.media_type), ("Content-Length", length)]
        self._write(
            h11.Response(status_code=answer.status, headers=head, reason=answer.status.phrase)
        )
        if not self._is_head:  # the answer to a HEAD request ends with its headers
            self._write(h11.Data(data=answer.body))
        self._write(h11.EndOfMessage())
        async with asyncio.timeout(self._seconds):
            await self._writer.drain()

    async def _hang_up(self, status: HTTPStatus, reason: str) -> None:
        allowed = [("Allow", "POST")] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
        answer = Answer(status, f"{reason}\n".encode())
        await self._send(answer, ("Connection", "close"), *allowed)

    def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
