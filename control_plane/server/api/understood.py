"""A change is made as its caller meant it, or not at all.

The rule of this module: a request for a change is refused if it has a field that this release does
not know. Protobuf ignores such a field; so if a newer ``c2c`` asked to revoke one join token, all
of them would be revoked, and it would be told that this was done. Calls that only read are
answered: a caller that asked for less than everything can search what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from control_plane.errors import InvalidArgument
from control_plane.server.access.admission import Context
from control_plane.server.access.changing import ChangeInterceptor, Method


class UnderstoodInterceptor(ChangeInterceptor):
    """Refuses changes that this release does not fully understand; stands inside the audit log."""

    def wrapped(self, method: Method, name: str) -> Method:  # noqa: ARG002 - all alike
        """Return the method, for requests of which every field is known."""

        async def understood(request: Message, context: Context) -> Any:  # noqa: ANN401 - any message
            for unknown in _unknown_in(request):
                raise InvalidArgument(
                    f"this server does not know {unknown}, it may be older than its caller: "
                    "nothing was changed, so upgrade it or leave that out"
                )
            return await method(request, context)

        return understood


def _unknown_in(message: Message) -> Iterator[str]:
    """Yield each unknown field of a message, including those of nested messages."""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"field {unknown[index].field_number} of {message.DESCRIPTOR.name}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _unknown_in(each)
