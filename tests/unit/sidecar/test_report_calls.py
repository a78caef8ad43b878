"""The calls by which an instance reports: the last word is the last one that is heard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.settings import SocketAddress
from control_plane.sidecar import report_calls as module
from control_plane.sidecar.credentials import LiveCredentials
from control_plane.sidecar.report_calls import ControlPlaneCalls


class ControlPlane(sidecar_pb2_grpc.SidecarServiceServicer):
    """Takes reports, those of a stream not before the test says so.

    Attributes:
        heard: of each report whether the instance leaves, in order.
    """

    def __init__(self) -> None:
        """Start with nothing heard."""
        self.heard: list[bool] = []
        self.began = asyncio.Event()
        self.may_read = asyncio.Event()
        self.ended = asyncio.Event()

    async def Report(
        self, request: sidecar_pb2.ReportRequest, context: object
    ) -> sidecar_pb2.ReportResponse:
        """Take one."""
        self.heard.append(request.leaving)
        return sidecar_pb2.ReportResponse()

    async def KeepReporting(  # type: ignore[override]  # the stubs know generators only
        self, _: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Take those of a stream."""
        self.began.set()
        try:
            await self.may_read.wait()
            while isinstance(request := await context.read(), sidecar_pb2.ReportRequest):
                self.heard.append(request.leaving)
        finally:
            self.ended.set()


async def test_nothing_is_heard_after_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that was on its way when the instance left would bring it back."""
    control_plane, server = ControlPlane(), grpc.aio.server()
    sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(control_plane, server)
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    await server.start()
    channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/socket")
    monkeypatch.setattr(module, "instance_channel", lambda *_: channel)
    live = cast("LiveCredentials", SimpleNamespace(current=object()))
    calls = ControlPlaneCalls(SocketAddress("127.0.0.1", 1), live)
    try:
        async with asyncio.timeout(10):
            telling = asyncio.create_task(calls.keep_reporting(sidecar_pb2.ReportRequest(), 10))
            await control_plane.began.wait()
            telling.cancel()
            await calls.report(sidecar_pb2.ReportRequest(leaving=True), 10)
            control_plane.may_read.set()
            await control_plane.ended.wait()
    finally:
        await calls.close()
        await server.stop(None)

    assert control_plane.heard == [True]
