"""A change is made as it was meant, or not at all.

The rule of this module: a request for a change that has a field that this release does not know is
refused. Protobuf passes over such a field, so a newer ``c2c`` that asks to revoke one join token
would have all of them revoked, and be told that this was done. What only reads is answered: who
asks for less than all can look through the rest.
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
    """Refuses changes of which this release does not know a part; stands inside the audit log."""

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
    """Yield each field that is unknown, also of the messages in a message."""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"field {unknown[index].field_number} of {message.DESCRIPTOR.name}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _unknown_in(each)
