"""Which nodes a CSDS request is about.

The rule of this module: the id of a node is matched in every way that Envoy's own ``StringMatcher``
has, a regular expression being matched as a whole. What cannot be matched is refused, and never
taken for a match of all.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.type.matcher.v3 import node_pb2, string_pb2

from control_plane.errors import InvalidArgument
from control_plane.server.regex import Regex

FIELD = "node_matchers"

NodeMatcher = Callable[[str], bool]
"""Tells whether a node has an id that is asked for."""


def node_matcher(matcher: node_pb2.NodeMatcher) -> NodeMatcher:
    """Return what a matcher says of ids.

    Raises:
        InvalidArgument: it asks for something that cannot be told.
    """
    if matcher.node_metadatas:
        raise InvalidArgument(
            "node metadata is not kept, so it cannot be matched: match node_id", field=FIELD
        )
    if not matcher.HasField("node_id"):
        return lambda _: True
    return _string_matcher(matcher.node_id)


def _string_matcher(matcher: string_pb2.StringMatcher) -> NodeMatcher:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        # "This has no effect for the safe_regex match", says the API of ignore_case.
        return Regex(matcher.safe_regex.regex, field=FIELD).matches
    fold = str.lower if matcher.ignore_case else str
    compared: dict[str, Callable[[str, str], bool]] = {
        "exact": str.__eq__,
        "prefix": str.startswith,
        "suffix": str.endswith,
        "contains": str.__contains__,
    }
    if kind not in compared:
        raise InvalidArgument(
            "node_id is matched by exact, prefix, suffix, contains or safe_regex", field=FIELD
        )
    compare, wanted = compared[kind], fold(getattr(matcher, kind))
    return lambda node_id: compare(fold(node_id), wanted)
