"""CSDS on a port of its own.

The rule of this module: its caller is an operator, not an xDS client. So nothing is served there
but CSDS, and reflection, by which grpcurl finds it; and the limits are those of the server that is
asked about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from envoy.service.status.v3 import csds_pb2_grpc

from control_plane.server.access.request_time import RequestTime
from control_plane.server.csds.client_status import SERVICE, ClientStatusService
from control_plane.server.limits import ServerLimits
from control_plane.server.listening import listen_at, stop
from control_plane.server.reflection import add_reflection
from control_plane.server.status import StatusInterceptor

_STOP_SECONDS = 1.0
"""How long an answer that is being sent may take when the port closes."""


@asynccontextmanager
async def client_status_port(
    service: ClientStatusService,
    address: str,
    credentials: grpc.ServerCredentials | None,
    limits: ServerLimits,
) -> AsyncIterator[str]:
    """Serve CSDS as long as the block runs; the block gets the address.

    Args:
        service: makes the answers.
        address: ``host:port``, or ``unix:path``.
        credentials: the TLS of the port; None for plaintext.
        limits: how much a caller may ask for.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    options = limits.channel_options()
    interceptors = [RequestTime(limits), StatusInterceptor()]
    server = grpc.aio.server(interceptors=interceptors, options=options)
    csds_pb2_grpc.add_ClientStatusDiscoveryServiceServicer_to_server(service, server)
    add_reflection(server, [SERVICE])
    bound = await listen_at(server, address, credentials)
    try:
        yield bound
    finally:
        await stop(server, _STOP_SECONDS)
