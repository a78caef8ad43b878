"""A defect of ours ends one call, tells its caller nothing, and is in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.errors import IssuanceError, StorageError
from tests.api.serving import channel_to, serving

SERVICE = "test.Service"
Status = tuple[grpc.StatusCode, str | None]
Streamed = tuple[list[bytes], Status]
Context = grpc.aio.ServicerContext[Any, Any]

PARSED = health_pb2.HealthCheckRequest.FromString
NO_MESSAGE = b"\xff\xff"
TOLD = [
    (RuntimeError("token=hunter2"), grpc.StatusCode.INTERNAL, "internal error", True),
    (IssuanceError("the CA is not valid"), grpc.StatusCode.INTERNAL, "the CA is not valid", True),
    (StorageError("the disk is full"), grpc.StatusCode.UNAVAILABLE, "the disk is full", False),
]


class Service:
    """Methods that fail, ones that end their calls themselves, and ones that read."""

    def __init__(self, error: Exception) -> None:
        """Fail with this error."""
        self._error = error
        self._heard = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve them."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "Abort": grpc.unary_unary_rpc_method_handler(self._abort),
            "FailLater": grpc.unary_stream_rpc_method_handler(self._fail_later),
            "FailInTalk": grpc.stream_stream_rpc_method_handler(self._fail_later),
            "AbortLater": grpc.unary_stream_rpc_method_handler(self._abort_later),
            "Read": grpc.unary_stream_rpc_method_handler(self._read, PARSED),
            "ReadAll": grpc.stream_stream_rpc_method_handler(self._read_all, PARSED),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers((handler,))

    async def ended(self, socket: Path, method: str) -> grpc.aio.AioRpcError:
        """Call a method that fails."""
        async with channel_to(socket) as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/{method}", request_serializer=bytes, response_deserializer=bytes
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"x")
        return caught.value

    async def streamed(self, socket: Path, method: str, request: bytes) -> Streamed:
        """Return what a method streams, and how it ends.

        A call that ends while its client writes may end with the failure of that write instead. So
        a method fails only once it was heard, when nothing is on its way to it any more.
        """
        async with channel_to(socket) as channel:
            stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
            stream = channel.stream_stream(f"/{SERVICE}/{method}")
            call = stream()
            await call.write(request)
            answers = []
            with suppress(grpc.aio.AioRpcError):
                async for each in call:
                    answers.append(each)
                    self._heard.set()
                    if method == "ReadAll":
                        await call.done_writing()
            return answers, (await call.code(), await call.details())

    async def _fail(self, _: bytes, context: object) -> bytes:
        raise self._error

    async def _abort(self, _: bytes, context: Context) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "of its own accord")

    async def _fail_later(self, _: object, context: object) -> AsyncIterator[bytes]:
        yield b"so far"
        await self._heard.wait()
        raise self._error

    async def _abort_later(self, _: object, context: Context) -> AsyncIterator[bytes]:
        yield b"so far"
        await self._heard.wait()
        await context.abort(grpc.StatusCode.ABORTED, "of its own accord")

    async def _read(self, _: object, context: object) -> AsyncIterator[bytes]:
        yield b"read"

    async def _read_all(
        self, requests: AsyncIterator[object], context: object
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield b"read"


@pytest.mark.parametrize(
    ("error", "code", "message", "logged"), TOLD, ids=["defect", "issuance", "storage"]
)
async def test_what_a_method_raises_becomes_its_status(
    tmp_path: Path, error: Exception, code: grpc.StatusCode, message: str, *, logged: bool
) -> None:
    """Our own fault is logged with the method; what a defect says does not reach the caller."""
    service = Service(error)
    with capture_logs() as logs:
        async with serving(tmp_path, service.add_to) as socket:
            failed = await service.ended(socket, "Fail")

    assert (failed.code(), failed.details()) == (code, message)
    found = [(each["event"], each["method"]) for each in logs]
    assert found == ([(log_events.CALL_FAILED, f"/{SERVICE}/Fail")] if logged else [])


async def test_a_method_may_end_its_call_itself(tmp_path: Path) -> None:
    """Aborting is no failure, and its status is left as it is."""
    service = Service(ValueError())
    with capture_logs() as logs:
        async with serving(tmp_path, service.add_to) as socket:
            failed = await service.ended(socket, "Abort")

    assert (failed.code(), failed.details()) == (grpc.StatusCode.ABORTED, "of its own accord")
    assert logs == []


@pytest.mark.parametrize("method", ["FailLater", "FailInTalk"])
@pytest.mark.parametrize(
    ("error", "code", "message", "logged"), TOLD, ids=["defect", "issuance", "storage"]
)
async def test_what_a_stream_raises_becomes_its_status(
    tmp_path: Path,
    method: str,
    error: Exception,
    code: grpc.StatusCode,
    message: str,
    *,
    logged: bool,
) -> None:
    """What was said before it failed arrives, and then what a unary method would have answered."""
    service = Service(error)
    with capture_logs() as logs:
        async with serving(tmp_path, service.add_to) as socket:
            answers, status = await service.streamed(socket, method, b"x")

    assert (answers, status) == ([b"so far"], (code, message))
    found = [(each["event"], each["method"]) for each in logs]
    assert found == ([(log_events.CALL_FAILED, f"/{SERVICE}/{method}")] if logged else [])


async def test_a_stream_may_end_itself(tmp_path: Path) -> None:
    """Aborting is no failure there either."""
    service = Service(ValueError())
    with capture_logs() as logs:
        async with serving(tmp_path, service.add_to) as socket:
            _, status = await service.streamed(socket, "AbortLater", b"x")

    assert status == (grpc.StatusCode.ABORTED, "of its own accord")
    assert logs == []


@pytest.mark.parametrize("method", ["Read", "ReadAll"])
async def test_bytes_that_are_no_message_are_the_callers_fault(tmp_path: Path, method: str) -> None:
    """A stream is told so as any other call is, not that there was something UNKNOWN."""
    service = Service(ValueError())
    with capture_logs() as logs:
        async with serving(tmp_path, service.add_to) as socket:
            good = await service.streamed(socket, method, b"")
            bad = await service.streamed(socket, method, NO_MESSAGE)

    sentence = "2 bytes that are no message of this method"
    assert good == ([b"read"], (grpc.StatusCode.OK, ""))
    assert bad == ([], (grpc.StatusCode.INVALID_ARGUMENT, sentence))
    assert logs == []
