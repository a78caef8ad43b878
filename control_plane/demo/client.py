"""What an app in the container of app-a does: resolve a name, connect, verify, send a request.

The rule of this module: nothing is skipped. The name is resolved by the sidecar's DNS server, the
certificate is verified against the CA and the full host name, and each connection comes from the
address of app-a.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import dns.asyncquery
import dns.message
import dns.rdatatype

from control_plane.demo.places import CALLER, DNS_PORT
from control_plane.names import C2C_PORT

_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request showed."""

    status: str
    body: str
    address: str
    serial: str
    names: tuple[str, ...]


async def resolve(name: str, source: str = CALLER.address) -> tuple[str, ...]:
    """Return the addresses of a name, from the resolver beside an app (by default app-a's)."""
    query = dns.message.make_query(name, "A")
    # dnspython's own timeout loses a cancellation that arrives together with the answer (Python
    # 3.11).
    async with asyncio.timeout(_SECONDS):
        response = await dns.asyncquery.udp(query, source, port=DNS_PORT)
    return tuple(
        item.address
        for rrset in response.answer
        if rrset.rdtype == dns.rdatatype.A
        for item in rrset
    )


class Connection:
    """A verified connection from app-a, for requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use this connection."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls, name: str, trust: ssl.SSLContext, address: str = "", source: str = CALLER.address
    ) -> Connection:
        """Connect to an instance that a name leads to.

        Raises:
            OSError: the name leads nowhere, the connection was refused or closed, or the
                certificate is not for the name (``ssl.SSLCertVerificationError``).
        """
        addresses = [address] if address else await resolve(name, source)
        if not addresses:
            raise OSError(f"{name} does not resolve")
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(
                addresses[0],
                C2C_PORT,
                ssl=trust,
                server_hostname=name,
                local_addr=(source, 0),
            )
        return cls(reader, writer)

    async def get(self, name: str) -> Answer:
        """Send a request and return what came back.

        Raises:
            OSError: the connection was closed.
        """
        self._writer.write(f"GET / HTTP/1.1\r\nhost: {name}\r\n\r\n".encode())
        try:
            async with asyncio.timeout(_SECONDS):
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = int(_header(head, "content-length") or 0)
                body = (await self._reader.readexactly(length)).decode()
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            raise OSError(f"no answer: {error}") from error
        certificate = self._writer.get_extra_info("peercert")
        return Answer(
            status=head.split("\r\n", 1)[0].partition(" ")[2],
            body=body.strip(),
            address=self._writer.get_extra_info("peername")[0],
            serial=certificate["serialNumber"].lower(),
            names=tuple(value for _, value in certificate["subjectAltName"]),
        )

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


async def get(
    name: str, trust: ssl.SSLContext, address: str = "", source: str = CALLER.address
) -> Answer:
    """Send one request over a connection of its own."""
    connection = await Connection.open(name, trust, address, source)
    try:
        return await connection.get(name)
    finally:
        connection.close()


@dataclass(slots=True)
class RequestLoop:
    """Requests, one after the other, each over a new and fully verified connection.

    Attributes:
        names: the names to ask; may be changed while the loop runs.
        source: the address to connect from.
    """

    trust: ssl.SSLContext
    names: Sequence[str]
    source: str = CALLER.address
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sending."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop after the request that is under way."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited directly: its cancellation would look like ours, as by Ctrl-C.
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def _run(self) -> None:
        while True:
            for name in tuple(self.names):
                started = time.monotonic()
                request = asyncio.ensure_future(get(name, self.trust, source=self.source))
                try:
                    await asyncio.shield(request)
                except asyncio.CancelledError:
                    await asyncio.gather(request, return_exceptions=True)
                    raise
                except OSError as error:
                    self.failures.append(f"{name}: {error}")
                self.sent += 1
                # About 100 a second is load enough for two Envoys and a person's machine.
                await asyncio.sleep(max(0.0, 0.01 - (time.monotonic() - started)))


def _header(head: str, name: str) -> str:
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return ""
