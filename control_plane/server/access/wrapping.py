"""Methods as interceptors wrap them that run before the request is there.

The rule of this module: such a method reads its requests from a stream, even if there is only one.
gRPC would wait for that one request itself, and would only then run anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


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
