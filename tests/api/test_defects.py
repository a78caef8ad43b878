"""A defect of ours ends one call, tells its caller nothing, and is in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.errors import IssuanceError, StorageError
from tests.api.serving import channel_to, serving

SERVICE = "test.Service"


def service(server: grpc.aio.Server, error: Exception) -> None:
    """Serve a method that fails, one that ends its call itself, and one that streams."""

    async def fail(_: bytes, context: object) -> bytes:
        raise error

    async def abort(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "of its own accord")

    async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
        yield request

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Abort": grpc.unary_unary_rpc_method_handler(abort),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
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


@pytest.mark.parametrize(
    ("error", "code", "message", "logged"),
    [
        (RuntimeError("token=hunter2"), grpc.StatusCode.INTERNAL, "internal error", True),
        (
            IssuanceError("the CA is not valid"),
            grpc.StatusCode.INTERNAL,
            "the CA is not valid",
            True,
        ),
        (StorageError("the disk is full"), grpc.StatusCode.UNAVAILABLE, "the disk is full", False),
    ],
    ids=["defect", "issuance", "storage"],
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


async def test_streams_are_left_alone(tmp_path: Path) -> None:
    """A method that streams its answer passes through untouched."""
    async with (
        serving(tmp_path, lambda server: service(server, ValueError())) as socket,
        channel_to(socket) as channel,
    ):
        call = channel.unary_stream(
            f"/{SERVICE}/Stream", request_serializer=bytes, response_deserializer=bytes
        )
        answers = [each async for each in call(b"x")]

    assert answers == [b"x"]
