"""A change is made as its caller meant it, or not at all.

The rule of this module: a request for a change is refused if it has a field that this release does
not know. Protobuf ignores such a field; so if a newer ``c2c`` asked to revoke one join token, all
of them would be revoked, and it would be told that this was done. Calls that only read are
answered: a caller that asked for less than everything can search what it gets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from control_plane.errors import InvalidArgument
from control_plane.server.access.admission import Context
from control_plane.server.observability.audit import changes_something


class UnderstoodInterceptor(grpc.aio.ServerInterceptor):
    """Refuses changes that this release does not fully understand; stands inside the audit log."""

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method that a call is for, if it changes something."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or not changes_something(name):
            return handler
        method = cast("Callable[..., Awaitable[Any]]", handler.unary_unary)

        async def understood(request: Message, context: Context) -> Any:  # noqa: ANN401 - any message
            for unknown in _unknown_in(request):
                raise InvalidArgument(
                    f"this server does not know {unknown}, it may be older than its caller: "
                    "nothing was changed, so upgrade it or leave that out"
                )
            return await method(request, context)

        return grpc.unary_unary_rpc_method_handler(
            understood,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _unknown_in(message: Message) -> Iterator[str]:
    """Yield each unknown field of a message, including those of nested messages."""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"field {unknown[index].field_number} of {message.DESCRIPTOR.name}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _unknown_in(each)
