"""The client of a REST-JSON request, described as gRPC describes its peers.

The rule of this module: an admission need not know which protocol a client uses.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

_ADDRESS = "IP Address"
_NAMES = frozenset({"DNS", "URI", "email", _ADDRESS})
"""The kinds of names that identify a peer; of other names gRPC tells no more than that they
exist."""


@dataclass(frozen=True, slots=True)
class RestPeer:
    """The other end of a connection; a ``PeerContext``.

    Attributes:
        address: the address of the peer, as gRPC writes it.
        proven: what the handshake proved.
    """

    address: str
    proven: Mapping[str, tuple[bytes, ...]]

    @classmethod
    def of(cls, writer: asyncio.StreamWriter) -> RestPeer:
        """Return the peer of a connection."""
        return cls(_shown(writer.get_extra_info("peername")), _proven(writer))

    def peer(self) -> str:
        """Return the address that the request comes from."""
        return self.address

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the names in the peer's certificate, or its common name if it has no others."""
        names = self.proven.get("x509_subject_alternative_name")
        return names or self.proven.get("x509_common_name")

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the handshake proved; ``x509_pem_cert`` is the peer's certificate."""
        return self.proven


def _shown(name: Any) -> str:  # noqa: ANN401 - what the socket module has for its families
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[0], name[1]
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _proven(writer: asyncio.StreamWriter) -> dict[str, tuple[bytes, ...]]:
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    if tls is None or certificate is None:
        return {}
    fields: Any = tls.getpeercert() or {}
    common = [value for each in fields["subject"] for key, value in each if key == "commonName"]
    names = [
        # Python writes an IPv6 address in eight groups, and gRPC in the usual compressed form.
        ip_address(name).compressed if kind == _ADDRESS else name
        for kind, name in fields.get("subjectAltName", ())
        if kind in _NAMES
    ]
    found = {
        "transport_security_type": [b"ssl"],
        "x509_common_name": [each.encode() for each in common],
        "x509_subject_alternative_name": [each.encode() for each in names],
        "x509_pem_cert": [ssl.DER_cert_to_PEM_cert(certificate).encode()],
    }
    return {key: tuple(values) for key, values in found.items() if values}
