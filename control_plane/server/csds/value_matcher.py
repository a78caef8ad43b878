"""Envoy's ``StructMatcher``: whether a value at a path in metadata is the one that is asked for.

The rule of this module: matching follows ``envoy/type/matcher/v3/struct.proto`` and
``value.proto``. A path that leads nowhere, or a value of another kind, does not match; an
incomplete matcher is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envoy.type.matcher.v3 import number_pb2, struct_pb2, value_pb2
from google.protobuf.struct_pb2 import Struct, Value

from control_plane.errors import InvalidArgument
from control_plane.server.csds.string_matcher import string_matcher

_PRIMITIVE = frozenset({"null_value", "number_value", "string_value", "bool_value"})

_Test = Callable[[Value], bool]


def struct_matcher(matcher: struct_pb2.StructMatcher, *, field: str) -> Callable[[Struct], bool]:
    """Return a function that tests metadata as a matcher says.

    Raises:
        InvalidArgument: the matcher does not say where to look, or for what.
        FailedPrecondition: the matcher needs RE2, which is not installed.
    """
    path = [each.key for each in matcher.path]
    if not all(path) or not path:
        raise InvalidArgument("a matcher of metadata has a path of one key or more", field=field)
    test = _test(matcher.value, field)

    def matches(metadata: Struct) -> bool:
        found = _found(metadata, path)
        return found is not None and test(found)

    return matches


def _found(metadata: Struct, path: Sequence[str]) -> Value | None:
    *outer, last = path
    inside = metadata
    for key in outer:
        found = inside.fields.get(key)
        if found is None:
            return None
        inside = found.struct_value  # empty if the value is no struct
    return inside.fields.get(last)


def _test(matcher: value_pb2.ValueMatcher, field: str) -> _Test:
    match matcher.WhichOneof("match_pattern"):
        case "null_match":
            return lambda value: value.WhichOneof("kind") == "null_value"
        case "double_match":
            return _number(matcher.double_match, field)
        case "string_match":
            text = string_matcher(matcher.string_match, what="a string", field=field)
            return lambda value: (
                value.WhichOneof("kind") == "string_value" and text(value.string_value)
            )
        case "bool_match":
            wanted = matcher.bool_match
            return lambda value: (
                value.WhichOneof("kind") == "bool_value" and value.bool_value is wanted
            )
        case "present_match":
            # "If the path is referring to a non-primitive value, the result is always not matched."
            present = matcher.present_match
            return lambda value: present and value.WhichOneof("kind") in _PRIMITIVE
        case "list_match":
            one_of = _test(matcher.list_match.one_of, field)
            return lambda value: any(one_of(each) for each in value.list_value.values)
        case "or_match":
            ways = [_test(each, field) for each in matcher.or_match.value_matchers]
            return lambda value: any(way(value) for way in ways)
        case _:
            raise InvalidArgument("a matcher of metadata has a value to look for", field=field)


def _number(matcher: number_pb2.DoubleMatcher, field: str) -> _Test:
    match matcher.WhichOneof("match_pattern"):
        case "exact":
            exact = matcher.exact
            return lambda value: (
                value.WhichOneof("kind") == "number_value" and value.number_value == exact
            )
        case "range":
            # "The start is inclusive, the end exclusive" (envoy.type.v3.DoubleRange).
            start, end = matcher.range.start, matcher.range.end
            return lambda value: (
                value.WhichOneof("kind") == "number_value" and start <= value.number_value < end
            )
        case _:
            raise InvalidArgument("double_match is exact or a range", field=field)
