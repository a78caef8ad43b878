"""Secrets as they may be shown.

The rule of this module: what Envoy's definitions mark as sensitive is hidden, at any depth, as in
Envoy's own config dump. So whatever kind of secret there is, or will be, nobody has to think of it
here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from udpa.annotations import sensitive_pb2

REDACTED = "[redacted]"
"""What Envoy's own config dump writes in the place of a key."""


def redacted(body: bytes) -> bytes:
    """Return a serialised Secret without what must stay secret."""
    secret = secret_pb2.Secret.FromString(body)
    _redact(secret)
    return bytes(secret.SerializeToString(deterministic=True))


def _redact(message: Message) -> None:
    for field, value in message.ListFields():
        is_sensitive = field.GetOptions().Extensions[sensitive_pb2.sensitive]
        for each in _messages_of(field, value):
            if is_sensitive:
                _hide(each)
            else:
                _redact(each)


def _messages_of(field: FieldDescriptor, value: Any) -> Iterable[Message]:  # noqa: ANN401 - any field
    kind = field.message_type
    if kind is None:
        return ()
    if kind.GetOptions().map_entry:
        return [each for each in value.values() if isinstance(each, Message)]
    return value if field.is_repeated else (value,)


def _hide(message: Message) -> None:
    """Hide a DataSource, or the content of an Any, which keeps its type."""
    if isinstance(message, base_pb2.DataSource):
        message.Clear()
        message.inline_string = REDACTED
    else:
        message.ClearField("value")
