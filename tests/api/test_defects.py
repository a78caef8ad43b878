"""A defect of ours ends one call, tells its caller nothing, and is in the log."""

from __future__ import annotations

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


PARSED = health_pb2.HealthCheckRequest.FromString
NO_MESSAGE = b"\xff\xff"
TOLD = [
    (RuntimeError("token=hunter2"), grpc.StatusCode.INTERNAL, "internal error", True),
    (IssuanceError("the CA is not valid"), grpc.StatusCode.INTERNAL, "the CA is not valid", True),
    (StorageError("the disk is full"), grpc.StatusCode.UNAVAILABLE, "the disk is full", False),
]


def service(server: grpc.aio.Server, error: Exception) -> None:
    """Serve methods that fail, ones that end their calls themselves, and ones that read."""

    async def fail(_: bytes, context: object) -> bytes:
        raise error

    async def abort(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "of its own accord")

    async def fail_later(_: object, context: object) -> AsyncIterator[bytes]:
        yield b"so far"
        raise error

    async def abort_later(
        _: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        yield b"so far"
        await context.abort(grpc.StatusCode.ABORTED, "of its own accord")

    async def read(_: object, context: object) -> AsyncIterator[bytes]:
        yield b"read"

    async def read_all(requests: AsyncIterator[object], context: object) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield b"read"

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Abort": grpc.unary_unary_rpc_method_handler(abort),
        "FailLater": grpc.unary_stream_rpc_method_handler(fail_later),
        "FailInTalk": grpc.stream_stream_rpc_method_handler(fail_later),
        "AbortLater": grpc.unary_stream_rpc_method_handler(abort_later),
        "Read": grpc.unary_stream_rpc_method_handler(read, PARSED),
        "ReadAll": grpc.stream_stream_rpc_method_handler(read_all, PARSED),
    }
    handler = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers((handler,))


async def ended(socket: Path, method: str) -> grpc.aio.AioRpcError:
    """Call a method that fails."""
    async with channel_to(socket) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/{method}", request_serializer=bytes, response_deserializer=bytes
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"x")
    return caught.value


async def streamed(socket: Path, method: str, *requests: bytes) -> tuple[list[bytes], Status]:
    """Return what a method streams, and how it ends."""
    async with channel_to(socket) as channel:
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        stream = channel.stream_stream(f"/{SERVICE}/{method}")
        call = stream(iter(requests))
        answers = []
        with suppress(grpc.aio.AioRpcError):
            async for each in call:
                answers.append(each)  # noqa: PERF401 - what came before it failed counts
        return answers, (await call.code(), await call.details())


@pytest.mark.parametrize(
    ("error", "code", "message", "logged"), TOLD, ids=["defect", "issuance", "storage"]
)
async def test_what_a_method_raises_becomes_its_status(
    tmp_path: Path, error: Exception, code: grpc.StatusCode, message: str, *, logged: bool
) -> None:
    """Our own fault is logged with the method; what a defect says does not reach the caller."""
    with capture_logs() as logs:
        async with serving(tmp_path, lambda server: service(server, error)) as socket:
            failed = await ended(socket, "Fail")

    assert (failed.code(), failed.details()) == (code, message)
    found = [(each["event"], each["method"]) for each in logs]
    assert found == ([(log_events.CALL_FAILED, f"/{SERVICE}/Fail")] if logged else [])


async def test_a_method_may_end_its_call_itself(tmp_path: Path) -> None:
    """Aborting is no failure, and its status is left as it is."""
    with capture_logs() as logs:
        async with serving(tmp_path, lambda server: service(server, ValueError())) as socket:
            failed = await ended(socket, "Abort")

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
    with capture_logs() as logs:
        async with serving(tmp_path, lambda server: service(server, error)) as socket:
            answers, status = await streamed(socket, method, b"x")

    assert (answers, status) == ([b"so far"], (code, message))
    found = [(each["event"], each["method"]) for each in logs]
    assert found == ([(log_events.CALL_FAILED, f"/{SERVICE}/{method}")] if logged else [])


async def test_a_stream_may_end_itself(tmp_path: Path) -> None:
    """Aborting is no failure there either."""
    with capture_logs() as logs:
        async with serving(tmp_path, lambda server: service(server, ValueError())) as socket:
            _, status = await streamed(socket, "AbortLater", b"x")

    assert status == (grpc.StatusCode.ABORTED, "of its own accord")
    assert logs == []


@pytest.mark.parametrize("method", ["Read", "ReadAll"])
async def test_bytes_that_are_no_message_are_the_callers_fault(tmp_path: Path, method: str) -> None:
    """A stream is told so as any other call is, not that there was something UNKNOWN."""
    with capture_logs() as logs:
        async with serving(tmp_path, lambda server: service(server, ValueError())) as socket:
            good = await streamed(socket, method, b"")
            bad = await streamed(socket, method, NO_MESSAGE)

    sentence = "2 bytes that are no message of this method"
    assert good == ([b"read"], (grpc.StatusCode.OK, ""))
    assert bad == ([], (grpc.StatusCode.INVALID_ARGUMENT, sentence))
    assert logs == []
