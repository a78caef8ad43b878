"""Who is at the other end of a connection, as gRPC tells it.

The rule of this module: it reads no certificate, so the library needs nothing of ours that does.
``validity`` tells what a certificate proves.
"""

from __future__ import annotations

from control_plane.errors import PermissionDenied
from control_plane.names import Address, shown
from control_plane.server.access.admission import PeerContext


def identities_in(context: PeerContext) -> tuple[str, ...]:
    """Return the subject alternative names of the peer's certificate; none if it showed none."""
    return tuple(each.decode("utf-8", "replace") for each in context.peer_identities() or ())


def caller(context: PeerContext) -> str:
    """Return the name under which a caller is counted: from its certificate, or its address."""
    return ", ".join(identities_in(context)) or context.peer().rpartition(":")[0]


def source_address(context: PeerContext) -> Address:
    """Return the IP address that a call comes from.

    Raises:
        PermissionDenied: the call does not come from an IP address.
    """
    kind, _, rest = context.peer().partition(":")
    host, _, _ = rest.rpartition(":")
    if kind not in {"ipv4", "ipv6"}:
        raise PermissionDenied(
            f"this call must come from an IP address, not {shown(context.peer())}"
        )
    return Address(host.removeprefix("%5B").removesuffix("%5D"))  # gRPC writes mapped ones as IPv4
