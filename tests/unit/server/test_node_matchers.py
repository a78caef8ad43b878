"""Which ids a matcher means, also where letters are of another case."""

from __future__ import annotations

import pytest
from envoy.type.matcher.v3 import node_pb2, string_pb2

from control_plane.server.node_matchers import node_matcher


@pytest.mark.parametrize(
    "pattern",
    [{"exact": "Node-One"}, {"prefix": "NODE"}, {"suffix": "oNe"}, {"contains": "e-O"}],
    ids=lambda pattern: next(iter(pattern)),
)
@pytest.mark.parametrize("node_id", ["node-one", "NODE-ONE", "Node-one"])
def test_case_is_ignored_on_both_sides(pattern: dict[str, str], node_id: str) -> None:
    """D2: neither the pattern nor the id has to be in lower case; without ignore_case it counts."""
    ignoring = string_pb2.StringMatcher(**pattern, ignore_case=True)
    strict = string_pb2.StringMatcher(**pattern)

    assert node_matcher(node_pb2.NodeMatcher(node_id=ignoring))(node_id)
    assert not node_matcher(node_pb2.NodeMatcher(node_id=ignoring))("another")
    assert not node_matcher(node_pb2.NodeMatcher(node_id=strict))("nOdE-oNE")
