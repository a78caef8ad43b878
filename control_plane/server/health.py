"""Whether the server takes calls, by the gRPC health checking protocol (grpc.health.v1).

The rule of this module: draining is announced at once and waits for no watcher. A watcher that does
not read holds up its own stream and no other. (grpcio's own servicer keeps a lock while it writes,
so one slow watcher would hold up the shutdown.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.errors import NotFound
from control_plane.names import shown

_Status = health_pb2.HealthCheckResponse
_Statuses: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]  # its stubs are older

WHOLE_SERVER = ""
"""The service name that stands for the server as a whole."""


class Health(health_pb2_grpc.HealthServicer):
    """Tells for each service of one server whether it takes calls."""

    def __init__(self, services: Iterable[str]) -> None:
        """Report these services, and the server as a whole, as serving."""
        self._services = frozenset({WHOLE_SERVER, *services})
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Report everything as not serving from now on, so that load balancers look elsewhere."""
        self._draining.set()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of a service.

        Raises:
            NotFound: this server has no such service.
        """
        if request.service not in self._services:
            raise NotFound(f"unknown service {shown(request.service)}", field="service")
        return self._now()

    async def List(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
        """Return the status of every service, as ``HealthListResponse``."""
        return _Statuses(statuses=dict.fromkeys(self._services, self._now()))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the status of a service now, and again when it changes."""
        if request.service not in self._services:
            # The protocol says that the service may be added later, so the stream stays open.
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        if not self._draining.is_set():
            yield _Status(status=_Status.SERVING)
            await self._draining.wait()
        yield _Status(status=_Status.NOT_SERVING)
        # After the last status, the stream is left to the client, or to the end of the server.
        await asyncio.Event().wait()

    def _now(self) -> health_pb2.HealthCheckResponse:
        draining = self._draining.is_set()
        return _Status(status=_Status.NOT_SERVING if draining else _Status.SERVING)
