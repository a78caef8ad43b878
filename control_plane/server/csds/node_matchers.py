"""Which nodes a CSDS request is about.

The rule of this module: "the match follows AND semantics" (``envoy/type/matcher/v3/node.proto``): a
node must match by its id, and by its metadata with each of the metadata matchers.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.config.core.v3 import base_pb2
from envoy.type.matcher.v3 import node_pb2

from control_plane.server.csds.string_matcher import string_matcher
from control_plane.server.csds.value_matcher import struct_matcher

FIELD = "node_matchers"

NodeMatcher = Callable[[base_pb2.Node], bool]
"""Tells whether a node is one of those asked for."""


def node_matcher(matcher: node_pb2.NodeMatcher) -> NodeMatcher:
    """Return a function that tests nodes as a matcher says.

    Raises:
        InvalidArgument: the matcher asks for something that cannot be tested.
        FailedPrecondition: the matcher needs RE2, which is not installed.
    """
    ids = [matcher.node_id] if matcher.HasField("node_id") else []
    id_tests = [string_matcher(each, what="node_id", field=FIELD) for each in ids]
    metadata_tests = [struct_matcher(each, field=FIELD) for each in matcher.node_metadatas]
    return lambda node: (
        all(test(node.id) for test in id_tests)
        and all(test(node.metadata) for test in metadata_tests)
    )
