"""gRPC channels to the control plane, always over TLS, and which errors are worth a retry.

The rule of this module: the server is verified by its own name and the given roots, whatever
address it is reached by. A refusal that time does not change is final; every other error is worth
another attempt.
"""

from __future__ import annotations

import grpc

from control_plane.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from control_plane.names import SERVER_NAME
from control_plane.settings import SocketAddress
from control_plane.sidecar.directory import Credentials

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    # The names of a thousand instances with a hundred routes exceed gRPC's default of 4 MiB.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # The control plane is never behind the proxy that the app's environment may name.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # Otherwise a new channel could share an old one's connection, and the identity shown on it.
    ("grpc.use_local_subchannel_pool", 1),
    # The callers have a back-off of their own; gRPC's would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A server that moved is found by its name; by default, gRPC resolves that every 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Notices a control plane that vanished without closing the connection, and has patience with
    # one that is busy. Of the two timeouts the second decides (grpcio 1.85), which by default is a
    # minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 40_000),
    ("grpc.http2.ping_timeout_ms", 40_000),
    ("grpc.http2.max_pings_without_data", 0),
)

_DEADLINE = "Deadline Exceeded"
"""What gRPC itself says, naming no server, when a call exceeded its deadline."""

_SAID_BY_THE_SERVER = "grpc-status-details-bin"
"""Metadata with each status by which the control plane itself ends a call (``server.status``)."""

_FINAL: dict[grpc.StatusCode, type[InvalidRequest]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: FailedPrecondition,
}
"""Two codes are not among them: ALREADY_EXISTS, which says that the address is held by an instance
whose end the control plane may not have noticed yet, and RESOURCE_EXHAUSTED, which says to come
again later."""


def anonymous_channel(server: SocketAddress, roots: bytes) -> grpc.aio.Channel:
    """Return a channel on which only the server shows a certificate."""
    tls = grpc.ssl_channel_credentials(roots)
    return grpc.aio.secure_channel(_target(server), tls, CHANNEL_OPTIONS)


def instance_channel(server: SocketAddress, credentials: Credentials) -> grpc.aio.Channel:
    """Return a channel on which both sides show a certificate."""
    identity = credentials.identity
    tls = grpc.ssl_channel_credentials(
        credentials.trust_bundle, identity.key.private_pem(), identity.chain_pem
    )
    return grpc.aio.secure_channel(_target(server), tls, CHANNEL_OPTIONS)


def _target(server: SocketAddress) -> str:
    """Return the server as gRPC reads it: in a URI, in which the % before a zone is quoted."""
    return f"dns:///{server}".replace("%", "%25")


def refusal(error: grpc.aio.AioRpcError) -> InvalidRequest | None:
    """Return the exception for a final refusal; None if another attempt may succeed."""
    kind = _FINAL.get(error.code())
    return None if kind is None else kind(reason(error))


def is_held(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether a call was refused because another instance holds the address."""
    return error.code() is grpc.StatusCode.ALREADY_EXISTS


def is_said_by_the_server(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether the control plane itself ended a call, and not gRPC or a proxy in between."""
    return any(key == _SAID_BY_THE_SERVER for key, _ in error.trailing_metadata() or ())


def reason(error: grpc.aio.AioRpcError) -> str:
    """Return why a call failed, in one sentence."""
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "the server does not offer this service at this port"
    return error.details() or error.code().name.lower()


def silence(
    error: grpc.aio.AioRpcError, server: SocketAddress, seconds: float
) -> grpc.aio.AioRpcError:
    """Return an error that names the server if it did not answer in time; any other as it is."""
    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or error.details() != _DEADLINE:
        return error
    return silent(server, seconds)


def silent(server: SocketAddress, seconds: float) -> grpc.aio.AioRpcError:
    """Return the error of a call that the server did not answer in time."""
    code, nothing = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata()
    details = f"no answer from {server} within {seconds:g} s"
    return grpc.aio.AioRpcError(code, nothing, nothing, details=details)
