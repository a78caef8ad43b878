"""Errors as gRPC status: the one place that turns "whose fault" into a status code.

The rule of this module: an error that was raised on purpose (``control_plane.errors``) is told to
the caller, with the request field at fault as a ``google.rpc.BadRequest``, so that a program need
not read the sentence. Any other exception is a defect of ours: the caller learns that there was
one, and the log says which.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import NoReturn, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from control_plane import log_events
from control_plane.errors import (
    AlreadyExists,
    ControlPlaneError,
    FailedPrecondition,
    InvalidArgument,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PeerLimitExceeded,
    PeerProtocolError,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from control_plane.names import abridged

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_CODES: tuple[tuple[type[ControlPlaneError], grpc.StatusCode], ...] = (
    (InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (LimitExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (PeerLimitExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (PeerProtocolError, grpc.StatusCode.INVALID_ARGUMENT),
    (StorageError, grpc.StatusCode.UNAVAILABLE),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (ControlPlaneError, grpc.StatusCode.INTERNAL),
)
"""The first class that matches counts, so special classes come before general ones."""


def code_of(error: Exception) -> grpc.StatusCode:
    """Return the status code that says whose fault an error is; INTERNAL for a defect of ours."""
    return next(
        (code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL
    )


def status_of(error: Exception) -> status_pb2.Status:
    """Return what a caller is told of an error; for a defect of ours, that is only the code."""
    number: int = code_of(error).value[0]
    if not isinstance(error, ControlPlaneError):
        return status_pb2.Status(code=number, message="internal error")
    # The text is in the answer's metadata twice. gRPC takes some 16 KB of metadata; if there is
    # more, the caller learns only that there is too much.
    status = status_pb2.Status(code=number, message=abridged(str(error)))
    if isinstance(error, InvalidRequest) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=abridged(error.rule)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def let_go(failure: BaseException | None) -> None:
    """Have a failure keep nothing of what its code worked with, once nobody looks into that.

    gRPC keeps the exception that ends a call, and that keeps the failure before it, until the
    garbage collector comes. Without this, each would keep the State that a call was refused by, and
    a stream all that was served on it. Frames that are still being run stay as they are.
    """
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__context__


async def end_call(
    context: grpc.aio.ServicerContext[_Request, _Response], method: str, error: Exception
) -> NoReturn:
    """End a call with the status of the error raised in it; a defect of ours is logged."""
    if code_of(error) is grpc.StatusCode.INTERNAL:
        log = structlog.get_logger(__name__)
        log.error(log_events.CALL_FAILED, method=method, exc_info=error)
    let_go(error)
    await context.abort_with_status(rpc_status.to_status(status_of(error)))


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Answers every call whose method raised an exception, so that no method has to.

    A streaming method that writes to its stream itself, and is no generator, has to end its calls
    itself.
    """

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails],
            Awaitable[grpc.RpcMethodHandler[_Request, _Response] | None],
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Wrap the method that a call is for."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.unary_unary is not None:
            return _answered(handler, handler_call_details.method)
        if inspect.isasyncgenfunction(handler.unary_stream or handler.stream_stream):
            return _streamed(handler, handler_call_details.method)
        return handler


def _answered(
    handler: grpc.RpcMethodHandler[_Request, _Response], path: str
) -> grpc.RpcMethodHandler[_Request, _Response]:
    # The stubs of grpc give the synchronous API's type; in grpc.aio a method is awaited.
    method = cast("Callable[..., Awaitable[_Response]]", handler.unary_unary)
    # gRPC itself would answer bytes that are no message with UNKNOWN, as if that were a defect of
    # ours.
    parse = handler.request_deserializer

    async def answered(
        raw: bytes, context: grpc.aio.ServicerContext[_Request, _Response]
    ) -> _Response:
        try:
            return await method(_parsed(raw, parse), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - this is where all of them become an answer
            await end_call(context, path, error)

    return grpc.unary_unary_rpc_method_handler(
        answered,
        response_serializer=handler.response_serializer,
    )


def _streamed(
    handler: grpc.RpcMethodHandler[_Request, _Response], path: str
) -> grpc.RpcMethodHandler[_Request, _Response]:
    method = cast(
        "Callable[..., AsyncGenerator[_Response, None]]",
        handler.unary_stream or handler.stream_stream,
    )
    parse = handler.request_deserializer  # likewise

    async def streamed(
        raw: bytes | AsyncIterator[bytes], context: grpc.aio.ServicerContext[_Request, _Response]
    ) -> AsyncIterator[_Response]:
        try:
            request = _parsed(raw, parse) if isinstance(raw, bytes) else _all_parsed(raw, parse)
            async with aclosing(method(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - likewise
            await end_call(context, path, error)

    make = (
        grpc.unary_stream_rpc_method_handler
        if handler.unary_stream is not None
        else grpc.stream_stream_rpc_method_handler
    )
    wrapped: grpc.RpcMethodHandler[_Request, _Response] = make(
        streamed, response_serializer=handler.response_serializer
    )
    return wrapped


def _parsed(raw: bytes, parse: Callable[[bytes], _Request] | None) -> _Request | bytes:
    try:
        return raw if parse is None else parse(raw)
    except DecodeError:
        raise InvalidArgument(f"{len(raw)} bytes that are no message of this method") from None


async def _all_parsed(
    raws: AsyncIterator[bytes], parse: Callable[[bytes], _Request] | None
) -> AsyncIterator[_Request | bytes]:
    async for raw in raws:
        yield _parsed(raw, parse)
