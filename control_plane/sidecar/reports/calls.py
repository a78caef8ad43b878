"""The calls by which an instance reports.

The rule of this module: all calls share one connection, which shows the current identity. Reports
go over one stream, because a call for each would cost either side ten times what a message does.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import Protocol

import grpc
from grpc.aio import AioRpcError, Metadata

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import instance_channel, silence, silent
from control_plane.sidecar.directory import Credentials
from control_plane.sidecar.enrolment.credentials import LiveCredentials


class ReportCalls(Protocol):
    """Where reports are sent."""

    async def report(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Report once, and return the answer, which comes at once.

        Raises:
            grpc.aio.AioRpcError: there was no answer within so many seconds.
        """

    async def keep_reporting(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Report, and return what the control plane says as soon as it has something to say.

        If this is cancelled, the caller may report again.

        Raises:
            grpc.aio.AioRpcError: the control plane said nothing within so many seconds, or is gone.
        """

    async def hear(self) -> sidecar_pb2.ReportResponse:
        """Return what the control plane says besides the answer to a report.

        Once the control plane can no longer be heard, this never returns.
        """

    async def reconnected(self) -> None:
        """Return once there is a connection that did not exist when this was called."""

    async def close(self) -> None:
        """Send no more reports."""


class ControlPlaneCalls:
    """Calls over mTLS; they must not overlap."""

    def __init__(self, server: SocketAddress, live: LiveCredentials) -> None:
        """Call this port with the credentials that are current at each call."""
        self._server = server
        self._live = live
        self._shown: Credentials | None = None
        self._channel: grpc.aio.Channel | None = None
        self._exchange: _Exchange | None = None
        self._has_replaced = False

    async def report(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Report once, and return the answer; this ends the stream, with what is on its way there.

        Raises:
            grpc.aio.AioRpcError: there was no answer within so many seconds.
        """
        self._hang_up()
        stub = sidecar_pb2_grpc.SidecarServiceStub(await self._open())
        try:
            return await stub.Report(request, timeout=seconds)
        except AioRpcError as error:
            raise silence(error, self._server, seconds) from None

    async def keep_reporting(
        self, request: sidecar_pb2.ReportRequest, seconds: float
    ) -> sidecar_pb2.ReportResponse:
        """Report, and return what the control plane says as soon as it has something to say.

        Raises:
            grpc.aio.AioRpcError: the control plane said nothing within so many seconds, or is gone.
        """
        channel = await self._open()
        if self._exchange is None or self._exchange.is_over:
            self._exchange = _Exchange(sidecar_pb2_grpc.SidecarServiceStub(channel))
        try:
            async with asyncio.timeout(seconds):
                response = await self._exchange.tell(request)
        except TimeoutError:
            self._hang_up()
            raise silent(self._server, seconds) from None
        self._drop_replaced()
        return response

    async def hear(self) -> sidecar_pb2.ReportResponse:
        """Return what the control plane says on the stream of reports besides the last answer.

        Without a stream, or once it has ended, this never returns: the next report opens another
        one.
        """
        if self._exchange is not None:
            return await self._exchange.hear()
        never: asyncio.Future[sidecar_pb2.ReportResponse]
        never = asyncio.get_running_loop().create_future()
        return await never

    async def reconnected(self) -> None:
        """Return once there is a connection that did not exist when this was called.

        Meanwhile the channel tries to connect, as often as its own back-off allows.
        """
        channel, ready = await self._open(), grpc.ChannelConnectivity.READY
        while channel.get_state() is ready:
            await channel.wait_for_state_change(ready)
        await channel.channel_ready()

    async def close(self) -> None:
        """Close the connection."""
        self._hang_up()
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._shown = None

    def _hang_up(self) -> None:
        """End the stream, if there is one; the next report opens another."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _drop_replaced(self) -> None:
        """Close connections that show an earlier identity, once the current one is in use.

        gRPC leaves calls in reference cycles, which keep connections open at both ends. A process
        that makes only these calls triggers Python's own collector once in weeks.
        """
        if self._has_replaced:
            self._has_replaced = False
            gc.collect()

    async def _open(self) -> grpc.aio.Channel:
        current = self._live.current
        if self._channel is None or self._shown is not current:
            self._has_replaced |= self._channel is not None
            await self.close()
            self._shown = current
            self._channel = instance_channel(self._server, current)
        return self._channel


class _Exchange:
    """One stream of reports.

    Tasks of its own read and write it, because gRPC ends a stream if a read or a write is
    cancelled.
    """

    def __init__(self, stub: sidecar_pb2_grpc.SidecarServiceAsyncStub) -> None:
        """Open a stream."""
        self._reports: asyncio.Queue[sidecar_pb2.ReportRequest] = asyncio.Queue()
        self._said: asyncio.Queue[sidecar_pb2.ReportResponse] = asyncio.Queue()
        self._call = stub.KeepReporting()
        self._reading = asyncio.create_task(self._read())
        self._writing = asyncio.create_task(self._write())

    @property
    def is_over(self) -> bool:
        """Whether nothing more will arrive."""
        return self._reading.done()

    async def tell(self, request: sidecar_pb2.ReportRequest) -> sidecar_pb2.ReportResponse:
        """Report, and return the first response after it.

        Raises:
            AioRpcError: the stream ended.
        """
        while not self._said.empty():
            self._said.get_nowait()  # it came before this report, so it answers an earlier one
        self._reports.put_nowait(request)
        saying = asyncio.ensure_future(self._said.get())
        try:
            await asyncio.wait([saying, self._reading], return_when=asyncio.FIRST_COMPLETED)
            return saying.result() if saying.done() else self._ended()
        finally:
            saying.cancel()

    async def hear(self) -> sidecar_pb2.ReportResponse:
        """Return the next response; once the stream has ended, never return."""
        return await self._said.get()

    def close(self) -> None:
        """End the stream."""
        self._writing.cancel()
        self._reading.cancel()
        self._call.cancel()

    def _ended(self) -> sidecar_pb2.ReportResponse:
        raise self._reading.result()

    async def _write(self) -> None:
        with suppress(AioRpcError, asyncio.InvalidStateError):  # it ended; the reader says why
            while True:
                await self._call.write(await self._reports.get())

    async def _read(self) -> AioRpcError:
        """Return why the stream ended."""
        try:
            while isinstance(each := await self._call.read(), sidecar_pb2.ReportResponse):
                self._said.put_nowait(each)
            code, details = await self._call.code(), await self._call.details()
        except AioRpcError as error:
            return error
        finally:
            self._writing.cancel()
        return AioRpcError(code, Metadata(), Metadata(), details=details)
