"""Protobuf messages of any content, as Hypothesis strategies."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

TEXTS = st.one_of(
    st.sampled_from(["", "app-a", "app-b", "apps.internal", "tcp", "udp", "127.0.0.1", "default"]),
    st.text(max_size=30),
    st.text("ab.-_*", max_size=300),
)

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 70_000),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 5),
}


_DEEPEST = 3
"""How many messages stand in one another; some types contain themselves."""


def messages(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages of this type, serialised."""
    return _content(kind, 0).map(lambda fields: kind(**fields).SerializeToString())


def _content(kind: type[Message], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        each.name: _value(each, depth)
        for each in kind.DESCRIPTOR.fields
        if each.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or depth < _DEEPEST
    }
    return st.fixed_dictionaries({}, optional=fields)


def _value(field: Any, depth: int) -> st.SearchStrategy[Any]:  # noqa: ANN401 - upb has its own
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = (_single(entry.fields_by_name[each], depth) for each in ("key", "value"))
        return st.just({}) if depth else st.dictionaries(key, value, max_size=3)
    one = _single(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _single(field: Any, depth: int) -> st.SearchStrategy[Any]:  # noqa: ANN401 - likewise
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=60) if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return st.floats(width=32)
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return _content(GetMessageClass(field.message_type), depth + 1)
        case _:
            return _INTEGERS[field.cpp_type]
