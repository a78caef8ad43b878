"""Clients that nobody let in, and how they are told so: not at all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from tests.envoy import tls_client
from tests.envoy.harness import C2C_PORT

PATIENCE = 0.5
"""How long a connection has to stay open to count as let in, in seconds."""


async def is_closed_at_accept(address: str, source: str, port: int = C2C_PORT) -> bool:
    """Tell whether a client that connects and is silent is closed without a byte."""
    reader, writer = await asyncio.open_connection(address, port, local_addr=(source, 0))
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read() == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.transport.abort()


async def sees_certificate(address: str, source: str, port: int = C2C_PORT) -> bool:
    """Tell whether a client that believes everything gets a certificate to see."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(
            address, port, local_addr=(source, 0), ssl=context
        )
    except OSError:
        return False
    writer.transport.abort()
    return True


async def ends(connection: tls_client.Connection, within: float) -> bool:
    """Tell whether an open connection is closed within so many seconds."""
    with contextlib.suppress(ConnectionResetError):
        try:
            async with asyncio.timeout(within):
                while await connection.reader.read(1 << 16):
                    pass
        except TimeoutError:
            return False
    return True
