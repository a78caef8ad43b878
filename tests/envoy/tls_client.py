"""A TLS client that trusts nothing but what it is told to, as a careful app would.

The rule of this module: chain, validity and host name are always verified in full; there is no
switch to turn that off. HTTP/1.1 is written by hand, so that a test sees every byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from cryptography import x509

from tests.envoy.harness import C2C_PORT, DEADLINE

LIFE = 60.0
"""How long a test may use one connection, in seconds: it fails where it would wait for ever."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a server showed in the handshake."""

    serial: int
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    alpn: str | None
    version: str | None
    cipher: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP/1.x response; ``head`` has status line and headers as they came."""

    status: int
    head: tuple[str, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, its name in any case."""
        for line in self.head[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


class Connection:
    """A verified TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def leaf(self) -> Leaf:
        """The certificate that was verified."""
        tls: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        certificate = x509.load_der_x509_certificate(der)
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        cipher = tls.cipher()
        return Leaf(
            serial=certificate.serial_number,
            names=tuple(sans.get_values_for_type(x509.DNSName)),
            addresses=tuple(str(ip) for ip in sans.get_values_for_type(x509.IPAddress)),
            alpn=tls.selected_alpn_protocol(),
            version=tls.version(),
            cipher=cipher[0] if cipher else "",
        )

    async def request(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[str] = (),
        body: bytes = b"",
    ) -> Answer:
        """Send an HTTP/1.1 request and return the response; the connection stays open."""
        lines = [f"{method} {path} HTTP/1.1", "Host: app-b.apps.internal", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()
            return await self.answer(bodiless=method == "HEAD")

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one response, whatever way its length is told."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        status = int(head[0].split(" ")[1])
        answer = Answer(status, tuple(head), b"")
        if bodiless or status in (204, 304) or status < 200:
            return answer
        if (length := answer.header("content-length")) is not None:
            body = await self.reader.readexactly(int(length))
        elif (answer.header("transfer-encoding") or "").lower() == "chunked":
            body = await self._chunks()
        else:
            body = await self.reader.read()
        return Answer(status, tuple(head), body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        while (await self.reader.readline()).strip():
            pass
        return body

    async def close(self) -> None:
        """Close both directions; a peer that closed or reset first is fine."""
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(2):
                await self.writer.wait_closed()


def context(
    ca_pem: bytes, *, alpn: Sequence[str] = (), maximum: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Return a context that trusts this CA only and verifies host names."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=ca_pem.decode())
    if alpn:
        tls.set_alpn_protocols(list(alpn))
    if maximum is not None:
        tls.maximum_version = maximum
    return tls


@contextlib.asynccontextmanager
async def connect(
    address: str,
    host: str,
    ca: bytes | ssl.SSLContext,
    *,
    port: int = C2C_PORT,
    source: str | None = None,
) -> AsyncIterator[Connection]:
    """Connect to an instance under a host name that its certificate must have.

    Args:
        address: where to connect to.
        host: the name to verify, and to send as SNI.
        ca: the CA to trust, or a whole context.
        port: the port to connect to.
        source: the address to connect from.
    """
    tls = ca if isinstance(ca, ssl.SSLContext) else context(ca)
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(
            address,
            port,
            ssl=tls,
            server_hostname=host,
            local_addr=None if source is None else (source, 0),
            limit=1 << 24,
        )
    connection = Connection(reader, writer)
    try:
        async with asyncio.timeout(LIFE):
            yield connection
    finally:
        await connection.close()


async def handshake(
    address: str,
    host: str,
    ca: bytes | ssl.SSLContext,
    *,
    port: int = C2C_PORT,
    source: str | None = None,
) -> Leaf:
    """Make one fresh, fully verified handshake and return what was shown."""
    async with connect(address, host, ca, port=port, source=source) as connection:
        return connection.leaf
