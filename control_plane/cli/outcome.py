"""Whether it is known what became of a call that failed.

The rule of this module: a change is durable before it is answered, so without an answer of the
server it may have been made. It was not made if the server refused it, or if there never was a
connection over which it could have been sent. If that cannot be told, the call counts as sent.
"""

from __future__ import annotations

import grpc

_SAID_BY_THE_SERVER = "grpc-status-details-bin"
"""Metadata that the server sends with each of its own refusals; gRPC's own errors do not have
it."""

_NEVER_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")
"""How gRPC's message begins if nothing was sent; any other error may have come after sending."""

_SILENCE = ("timed out before receiving SETTINGS frame", "ping timeout")
"""What gRPC says if the machine of the server accepts connections but the server does nothing: it
never did, or no longer does."""

REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
"""The codes by which the server says that it changed nothing, and why."""


def is_decided(call: grpc.Call) -> bool:
    """Tell whether it is certain that a failed call changed nothing."""
    match call.code():
        case grpc.StatusCode.UNAVAILABLE:
            never_connected = (call.details() or "").startswith(_NEVER_CONNECTED)
            return never_connected or is_said_by_the_server(call)
        case grpc.StatusCode.UNIMPLEMENTED:
            return True
        case code:
            return code in REFUSED


def is_said_by_the_server(call: grpc.Call) -> bool:
    """Tell whether a status is a refusal of the server, and not an error of gRPC on the way."""
    return any(key == _SAID_BY_THE_SERVER for key, _ in call.trailing_metadata() or ())


def is_silent(call: grpc.Call) -> bool:
    """Tell whether a connection is open but nothing came on it, or nothing more."""
    return any(each in (call.details() or "") for each in _SILENCE)
