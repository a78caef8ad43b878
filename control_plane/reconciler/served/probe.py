"""Proof of serving: which certificate an instance really shows.

The rule of this module: an ACK means accepted, not applied (Envoy's pull request 39891), so a
certificate counts as served only after a TLS handshake with the instance showed its serial. The
handshake sends nothing and trusts nothing: the certificate is read and the connection closed.
"""

from __future__ import annotations

import asyncio
import ssl

from control_plane.ca.certificate import read_certificate
from control_plane.errors import ControlPlaneError
from control_plane.names import at_ports

_HANDSHAKE_SECONDS = 5.0

_AT_ONCE = 32
"""How many handshakes of one prober run at once."""


class Prober:
    """Reads certificates by TLS handshakes, a few at a time."""

    def __init__(self) -> None:
        """Start with no handshake under way."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    async def served_serial(
        self, address: str, port: int, *, source: str | None = None
    ) -> int | str:
        """Return the serial of the certificate that an instance shows, or why it shows none.

        Args:
            address: the address of the instance.
            port: the port that serves TLS.
            source: the address to connect from.
        """
        where = at_ports(address, port)
        async with self._slots:
            try:
                async with asyncio.timeout(_HANDSHAKE_SECONDS):
                    der = await self._peer_certificate(address, port, source)
            except TimeoutError:
                return f"no TLS handshake with {where} within {_HANDSHAKE_SECONDS:.0f} s"
            except OSError as error:
                return f"no TLS handshake with {where}: {error.strerror or error}"
        try:
            return read_certificate(der).serial
        except ControlPlaneError as error:
            return f"{where} shows something else: {error}"

    async def _peer_certificate(self, address: str, port: int, source: str | None) -> bytes:
        local = None if source is None else (source, 0)
        _, writer = await asyncio.open_connection(
            address, port, ssl=self._context, local_addr=local
        )
        try:
            tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return tls.getpeercert(binary_form=True) or b""
        finally:
            writer.transport.abort()
