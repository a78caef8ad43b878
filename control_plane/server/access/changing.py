"""The methods of the operator's API that may change something, and what stands before them.

The rule of this module: a method only reads if its name says so; every other one counts as a
change, also one that is added later.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc

from control_plane.server.access.wrapping import Continuation

_READING = ("Get", "List", "Check", "Fetch", "Explain")

Method = Callable[..., Awaitable[Any]]
"""Answers one request with one response."""


class ChangeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method that may change something, and leaves the others as they are."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method that a call is for, if it changes something."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or name.startswith(_READING):
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self.wrapped(cast("Method", handler.unary_unary), name),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @abstractmethod
    def wrapped(self, method: Method, name: str) -> Method:
        """Return what is called in place of a method of this name."""
