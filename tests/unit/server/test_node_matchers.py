"""Which nodes a matcher means, by id and metadata, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.type.matcher.v3 import node_pb2, string_pb2
from google.protobuf.json_format import ParseDict

from control_plane.errors import FailedPrecondition, InvalidArgument
from control_plane.server.csds.node_matchers import FIELD, node_matcher
from control_plane.server.csds.string_matcher import MAX_PATTERN_OCTETS

GUID = "96cb38af-76a5-4b57-9bc3-8bcb6b5053ea"

METADATA = {
    "role": "web",
    "weight": 2.5,
    "canary": False,
    "owner": None,
    "labels": {"app": "shop", "tags": ["blue", 7, {"deep": 1}]},
}


def node(node_id: str, metadata: dict[str, object] | None = None) -> base_pb2.Node:
    """Return a node that says this of itself."""
    return ParseDict({"id": node_id, "metadata": metadata or {}}, base_pb2.Node())


def matches(matcher: dict[str, Any], of: base_pb2.Node) -> bool:
    """Tell what a matcher says of a node."""
    return node_matcher(ParseDict(matcher, node_pb2.NodeMatcher()))(of)


def at(path: str, **value: object) -> dict[str, Any]:
    """Return a matcher of the value at a path of metadata."""
    return {"path": [{"key": key} for key in path.split(".")], "value": value}


@pytest.mark.parametrize(
    "pattern",
    [{"exact": "Node-One"}, {"prefix": "NODE"}, {"suffix": "oNe"}, {"contains": "e-O"}],
    ids=lambda pattern: next(iter(pattern)),
)
@pytest.mark.parametrize("node_id", ["node-one", "NODE-ONE", "Node-one"])
def test_case_is_ignored_on_both_sides(pattern: dict[str, str], node_id: str) -> None:
    """D2: neither the pattern nor the id has to be in lower case; without ignore_case it counts."""
    ignoring = {"node_id": {**pattern, "ignore_case": True}}

    assert matches(ignoring, node(node_id))
    assert not matches(ignoring, node("another"))
    assert not matches({"node_id": pattern}, node("nOdE-oNE"))


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        ("app-b", ["app-b"], ["app-bb", "xapp-b", ""]),
        (f"{GUID}|x", [GUID, "x"], ["", f"{GUID}x"]),
        ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", [GUID], [GUID.upper(), GUID[1:]]),
        ("(?i)a[[:digit:]]", ["A1", "a2"], ["b1"]),
    ],
)
def test_a_regular_expression_matches_all_of_an_id(
    pattern: str, matched: list[str], unmatched: list[str]
) -> None:
    """D2: as Envoy's safe_regex does; ignore_case has no effect on it."""
    matcher = {"node_id": {"safe_regex": {"regex": pattern}, "ignore_case": True}}

    assert [text for text in matched if not matches(matcher, node(text))] == []
    assert [text for text in unmatched if matches(matcher, node(text))] == []


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+b", ".*.*.*.*.*.*b", "(a?){90}a{90}b"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """One that goes back and tries again would not come to an end here."""
    assert not matches({"node_id": {"safe_regex": {"regex": pattern}}}, node("a" * 5000))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("role", {"string_match": {"prefix": "w"}}),
        ("role", {"string_match": {"safe_regex": {"regex": "w.b"}}}),
        ("role", {"present_match": True}),
        ("weight", {"double_match": {"exact": 2.5}}),
        ("weight", {"double_match": {"range": {"start": 2.5, "end": 3}}}),
        ("canary", {"bool_match": False}),
        ("owner", {"null_match": {}}),
        ("owner", {"present_match": True}),
        ("labels.app", {"string_match": {"exact": "shop"}}),
        ("labels.tags", {"list_match": {"one_of": {"double_match": {"exact": 7}}}}),
        (
            "role",
            {
                "or_match": {
                    "value_matchers": [
                        {"bool_match": True},
                        {"string_match": {"exact": "web"}},
                    ]
                }
            },
        ),
    ],
)
def test_metadata_that_is_asked_for_is_found(path: str, value: dict[str, object]) -> None:
    """D2: a value at a path, of the kind and the content that the matcher says."""
    assert matches({"node_metadatas": [at(path, **value)]}, node("n", METADATA))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("role", {"string_match": {"exact": "job"}}),
        ("weight", {"string_match": {"contains": ""}}),
        ("role", {"double_match": {"exact": 0}}),
        ("role", {"double_match": {"range": {"start": -1, "end": 1}}}),
        ("weight", {"double_match": {"exact": 2}}),
        ("weight", {"double_match": {"range": {"start": 2, "end": 2.5}}}),
        ("weight", {"double_match": {"range": {"start": 3, "end": 4}}}),
        ("role", {"bool_match": False}),
        ("canary", {"bool_match": True}),
        ("canary", {"null_match": {}}),
        ("role", {"present_match": False}),
        ("absent", {"present_match": True}),
        ("absent", {"present_match": False}),
        ("absent", {"null_match": {}}),
        ("labels", {"present_match": True}),
        ("labels.tags", {"present_match": True}),
        ("labels.tags", {"list_match": {"one_of": {"string_match": {"exact": "red"}}}}),
        ("role", {"list_match": {"one_of": {"present_match": True}}}),
        ("role.app", {"present_match": True}),
        ("absent.app", {"present_match": True}),
        ("role", {"or_match": {"value_matchers": [{"bool_match": True}, {"null_match": {}}]}}),
    ],
)
def test_metadata_that_is_not_there_is_no_match(path: str, value: dict[str, object]) -> None:
    """D2: nor is another value, one of another kind, or a struct said to be present."""
    assert not matches({"node_metadatas": [at(path, **value)]}, node("n", METADATA))


def test_all_that_a_matcher_says_has_to_hold() -> None:
    """``node.proto``: the match follows AND semantics; what says nothing matches every node."""
    web, shop = (
        at("role", string_match={"exact": "web"}),
        at("labels.app", string_match={"exact": "shop"}),
    )
    job = at("role", string_match={"exact": "job"})
    here = node("n", METADATA)

    assert matches({"node_id": {"exact": "n"}, "node_metadatas": [web, shop]}, here)
    assert not matches({"node_id": {"exact": "m"}, "node_metadatas": [web, shop]}, here)
    assert not matches({"node_metadatas": [web, job]}, here)
    assert not matches({"node_metadatas": [job, web]}, here)
    assert matches({}, here)
    assert matches({}, node(""))


PATH = "a matcher of metadata has a path of one key or more"
VALUE = "a matcher of metadata has a value to look for"
KINDS = "is matched by exact, prefix, suffix, contains or safe_regex"
OCTETS = f"a regular expression must have 1 to {MAX_PATTERN_OCTETS} octets"
NO_REGEX = "is no regular expression of RE2"


@pytest.mark.parametrize(
    ("matcher", "sentence"),
    [
        ({"node_id": {}}, f"node_id {KINDS}"),
        ({"node_id": {"custom": {"name": "of one's own"}}}, f"node_id {KINDS}"),
        ({"node_id": {"safe_regex": {}}}, OCTETS),
        ({"node_id": {"safe_regex": {"regex": "a" * (MAX_PATTERN_OCTETS + 1)}}}, OCTETS),
        ({"node_id": {"safe_regex": {"regex": "ä" * MAX_PATTERN_OCTETS}}}, OCTETS),
        (
            {"node_id": {"safe_regex": {"regex": "(a"}}},
            f"'(a' {NO_REGEX}: missing ): (a",
        ),
        ({"node_id": {"safe_regex": {"regex": "(a{1000}){1000}"}}}, NO_REGEX),
        ({"node_metadatas": [{}]}, PATH),
        ({"node_metadatas": [{"path": [{}], "value": {"bool_match": True}}]}, PATH),
        ({"node_metadatas": [at("role")]}, VALUE),
        ({"node_metadatas": [at("role", list_match={})]}, VALUE),
        ({"node_metadatas": [at("role", or_match={"value_matchers": [{}]})]}, VALUE),
        ({"node_metadatas": [at("role", string_match={})]}, f"a string {KINDS}"),
        ({"node_metadatas": [at("role", double_match={})]}, "double_match is exact or a range"),
    ],
)
def test_what_is_not_understood_is_refused(matcher: dict[str, Any], sentence: str) -> None:
    """D2: with the reason; nothing is taken for a match of all."""
    with pytest.raises(InvalidArgument) as refused:
        matches(matcher, node("n", METADATA))

    assert sentence in str(refused.value)
    assert refused.value.field == FIELD


def test_a_pattern_without_re2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install, and that there are other ways, which work without it."""
    monkeypatch.setitem(sys.modules, "re2", None)

    with pytest.raises(FailedPrecondition, match=r"\(pip install google-re2\)"):
        matches({"node_id": {"safe_regex": {"regex": "n"}}}, node("n"))
    assert node_matcher(node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(exact="n")))(
        node("n")
    )
