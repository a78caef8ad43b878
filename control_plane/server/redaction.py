"""Resources in a form that may be shown.

The rule of this module: fields that Envoy's definitions mark as sensitive are hidden, at any depth,
as in Envoy's own config dump; so is content that cannot be examined here. Therefore this module
names no kind of secret, and the kinds that Envoy adds later are hidden too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from udpa.annotations import sensitive_pb2

from control_plane.server.descriptors import message_class

REDACTED = "[redacted]"
"""What Envoy's own config dump has in place of a key."""

_TYPED_STRUCTS = frozenset({"udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"})
"""Messages that hold a message of any type as JSON, without its field annotations."""


def redacted(type_url: str, body: bytes) -> bytes | None:
    """Return a serialised message without the parts that must stay secret.

    None if these cannot be told, because the type is not defined here or the bytes are not of that
    type.
    """
    kind = message_class(type_url)
    if kind is None:
        return None
    try:
        message = kind.FromString(body)
    except DecodeError:
        return None
    _redact(message)
    return message.SerializeToString(deterministic=True)


def _redact(message: Message) -> None:
    if isinstance(message, any_pb2.Any):
        message.value = redacted(message.type_url, message.value) or b""
        return
    if message.DESCRIPTOR.full_name in _TYPED_STRUCTS:
        message.ClearField("value")
        return
    for field, value in message.ListFields():
        inner = _messages_of(field, value)
        if not field.GetOptions().Extensions[sensitive_pb2.sensitive]:
            for each in inner:
                _redact(each)
        elif inner:
            for each in inner:
                _hide(each)
        elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, REDACTED)
        else:
            message.ClearField(field.name)


def _messages_of(field: FieldDescriptor, value: Any) -> Sequence[Message]:  # noqa: ANN401 - any field
    kind = field.message_type
    if kind is None:
        return ()
    if kind.GetOptions().map_entry:
        return [each for each in value.values() if isinstance(each, Message)]
    return list(value) if field.is_repeated else (value,)


def _hide(message: Message) -> None:
    """Hide a DataSource; or the content of an Any, which keeps its type; or any other message."""
    if isinstance(message, any_pb2.Any):
        message.ClearField("value")
        return
    message.Clear()
    if message.DESCRIPTOR.name == "DataSource":
        message.inline_string = REDACTED  # type: ignore[attr-defined]  # v2 has one, too
