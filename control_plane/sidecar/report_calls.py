"""The calls by which an instance reports.

The rule of this module: one connection for many calls, and it shows the identity of the moment.
"""

from __future__ import annotations

from typing import Protocol

import grpc

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import instance_channel
from control_plane.sidecar.credentials import LiveCredentials
from control_plane.sidecar.directory import Credentials


class ReportCalls(Protocol):
    """Where reports go."""

    async def report(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Return the answer to a report.

        Raises:
            grpc.aio.AioRpcError: there was none within so many seconds.
        """

    async def close(self) -> None:
        """Report no more."""


class ControlPlaneCalls:
    """Calls over mTLS."""

    def __init__(self, server: SocketAddress, live: LiveCredentials) -> None:
        """Call this port with the credentials of the moment."""
        self._server = server
        self._live = live
        self._shown: Credentials | None = None
        self._channel: grpc.aio.Channel | None = None

    async def report(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Return the answer to a report; calls must not overlap.

        Raises:
            grpc.aio.AioRpcError: there was none within so many seconds.
        """
        stub = sidecar_pb2_grpc.SidecarServiceStub(await self._open())
        return await stub.Report(request, timeout=seconds)

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._shown = None

    async def _open(self) -> grpc.aio.Channel:
        current = self._live.current
        if self._channel is None or self._shown is not current:
            await self.close()
            self._shown = current
            self._channel = instance_channel(self._server, current)
        return self._channel
