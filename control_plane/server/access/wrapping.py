"""Methods as they are wrapped around others.

The rules of this module:

- A method that runs before the request is there reads its requests from a stream, even if there is
  only one. gRPC would wait for that one request itself, and would only then run anything.
- A call that was open for long leaves nothing behind that only the garbage collector finds. It
  looks at what is old once in weeks or months (``app/process.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from control_plane.server.access.admission import Context
from control_plane.server.status import let_go

Behaviour = Callable[[AsyncIterator[Any], Context], Awaitable[Any]]
"""A method that reads its requests from a stream, and returns its response or writes to a
stream."""

Continuation = Callable[
    ["grpc.HandlerCallDetails"], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]
]
"""Returns the method that a call is for, as the interceptors further in wrap it; None if there is
none."""


def reading_its_requests(
    handler: grpc.RpcMethodHandler[Any, Any], behaviour: Callable[..., Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a method with the messages of another, and with a behaviour of its own.

    Args:
        handler: the other method; it tells whether there is one response or a stream of them.
        behaviour: is given the stream of requests, and the context of the call.
    """
    make: Any = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    method: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour, handler.request_deserializer, handler.response_serializer
    )
    return method


def leaving_nothing(behaviour: Behaviour) -> Behaviour:
    """Return a method that does the same, and keeps nothing once it was ended with a status.

    gRPC keeps the exception that ends a call with the call. The exception has the frames through
    which it came, and these have the call: a cycle, and in it all that the method worked with.
    """

    async def left(requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401 - any message
        try:
            return await behaviour(requests, context)
        except BaseException as error:
            let_go(error)
            del requests, context  # of this frame, which is among them
            raise

    return left
