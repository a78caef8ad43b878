"""Constraints as a message, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DynamicParameterConstraints
from google.protobuf.json_format import ParseDict

from control_plane.errors import InvalidArgument
from control_plane.server.discovery.wire_constraints import DEEPEST, read_constraints
from control_plane.xds.constraints import Not, Rule, Several, Single

PROD = {"constraint": {"key": "env", "value": "prod"}}


def message(fields: dict[str, Any]) -> Any:  # noqa: ANN401 - made at run time, without stubs
    """Return a message of these fields."""
    return ParseDict(fields, DynamicParameterConstraints())


def nested(depth: int) -> dict[str, Any]:
    """Return a rule that many others turn round."""
    return {"not_constraints": nested(depth - 1)} if depth > 1 else PROD


def one_of_one(depth: int) -> dict[str, Any]:
    """Return a rule that stands alone in many others."""
    return {"or_constraints": {"constraints": [one_of_one(depth - 1)]}} if depth > 1 else PROD


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (PROD, Single("env", "prod")),
        ({"constraint": {"key": "env", "value": ""}}, Single("env", "")),
        ({"constraint": {"key": "env", "exists": {}}}, Single("env")),
        ({"not_constraints": PROD}, Not(Single("env", "prod"))),
        ({"and_constraints": {"constraints": [PROD]}}, Several((Single("env", "prod"),))),
        (
            {"or_constraints": {"constraints": [PROD, {"not_constraints": PROD}]}},
            Several((Single("env", "prod"), Not(Single("env", "prod"))), one_is_enough=True),
        ),
        (nested(2), Not(Single("env", "prod"))),
    ],
    ids=["value", "empty value", "exists", "not", "and", "or", "nested"],
)
def test_message_says_what_it_says(fields: dict[str, Any], rule: Rule) -> None:
    """E3: each kind of constraint is known, and the message is kept for clients."""
    made = read_constraints(message(fields))

    assert made.rule == rule
    assert DynamicParameterConstraints.FromString(made.encoded) == message(fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "constraints that say nothing"),
        ({"not_constraints": {}}, "constraints that say nothing"),
        ({"and_constraints": {}}, "and_constraints without constraints"),
        ({"or_constraints": {}}, "or_constraints without constraints"),
        ({"constraint": {"key": "env"}}, "a constraint has a key, and either a value or exists"),
        ({"constraint": {"exists": {}}}, "a constraint has a key, and either a value or exists"),
        (nested(DEEPEST + 1), "constraints nest deeper than 16"),
        (one_of_one(DEEPEST + 1), "constraints nest deeper than 16"),
    ],
    ids=["nothing", "not nothing", "no and", "no or", "key alone", "no key", "deep", "deep or"],
)
def test_message_that_means_nobody_is_refused(fields: dict[str, Any], sentence: str) -> None:
    """E3: it would be a guess whether such a variant is everybody's or nobody's."""
    with pytest.raises(InvalidArgument, match=sentence):
        read_constraints(message(fields))


@pytest.mark.parametrize(
    ("given", "kind"),
    [(PROD, "builtins.dict"), (message(PROD).constraint, "SingleConstraint")],
    ids=["a dict", "a part of it"],
)
def test_what_are_no_constraints_is_refused(given: object, kind: str) -> None:
    """E3: the error says what was given instead, and what it had to be."""
    sentence = f"constraints are DynamicParameterConstraints, not a .*{kind}$"
    with pytest.raises(InvalidArgument, match=sentence):
        read_constraints(given)


def test_message_may_nest() -> None:
    """E3: as deep as anybody needs."""
    assert read_constraints(message(nested(DEEPEST))).matches({"env": "test"})
    assert read_constraints(message(one_of_one(DEEPEST))).matches({"env": "prod"})
