"""Connections by hand, for what no gRPC client would send.

The rule of this module: what is sent is exactly what a test says, and the server is verified.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from control_plane.ca import read_certificate
from control_plane.names import SERVER_NAME
from tests.security.holders import Holder
from tests.sidecar.platform import Platform


def tls_ports(cf: Platform) -> list[int]:
    """Return the ports that speak TLS: xDS, enrolment, and the operators'."""
    admin = cf.running.ports.admin_address
    assert admin is not None
    return [cf.running.xds_address.port, cf.running.enroll_address.port, admin.port]


def client_context(holder: Holder, directory: Path) -> ssl.SSLContext:
    """Return a TLS client that verifies the server, and shows the holder's certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=holder.roots.decode())
    tls.set_alpn_protocols(["h2"])
    pair = directory / "pair.pem"
    pair.write_bytes(holder.key.private_pem() + holder.chain)
    tls.load_cert_chain(pair)
    return tls


@asynccontextmanager
async def connected(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect by hand."""
    name = SERVER_NAME if tls is not None else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def shown_by(port: int, tls: ssl.SSLContext) -> int:
    """Return the serial of the certificate that a port shows in a new handshake."""
    async with connected(port, tls) as (_, writer):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return read_certificate(der).serial
