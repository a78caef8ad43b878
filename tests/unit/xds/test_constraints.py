"""Constraints match what they say, and variants that could be taken for each other are found."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.xds.constraints import (
    MOST_COMPARISONS,
    Constraints,
    Not,
    Rule,
    Several,
    Single,
    ambiguity,
)

PROD, TEST, QA = (Single("env", value) for value in ("prod", "test", "qa"))
V1 = Single("version", "v1")
NO_VERSION = Not(Single("version"))


def constraints(rule: Rule) -> Constraints:
    """Return the constraints that are this rule."""
    return Constraints(str(rule).encode(), rule)


def both(*parts: Rule) -> Several:
    """Return what matches if all of these do."""
    return Several(parts)


def either(*parts: Rule) -> Several:
    """Return what matches if one of these does."""
    return Several(parts, one_is_enough=True)


@pytest.mark.parametrize(
    ("rule", "matching", "others"),
    [
        (PROD, [{"env": "prod"}], [{"env": "test"}, {}, {"version": "prod"}]),
        (Single("env"), [{"env": "prod"}, {"env": ""}], [{}, {"version": "v1"}]),
        (Single("env", ""), [{"env": ""}], [{}, {"env": "prod"}]),
        (Not(PROD), [{"env": "test"}, {}], [{"env": "prod"}]),
        (either(PROD, TEST), [{"env": "prod"}, {"env": "test"}], [{"env": "qa"}, {}]),
        (
            both(PROD, NO_VERSION),
            [{"env": "prod"}],
            [{"env": "prod", "version": "v1"}, {"env": "test"}, {}],
        ),
    ],
    ids=str,
)
def test_what_matches(
    rule: Rule, matching: list[dict[str, str]], others: list[dict[str, str]]
) -> None:
    """E3: "value" and "exists" want the key to be there, and all rules may be turned round."""
    assert all(constraints(rule).matches(each) for each in matching)
    assert not any(constraints(rule).matches(each) for each in others)


def test_parameters_of_which_nothing_is_said_do_not_matter() -> None:
    """E3: "that parameter does not prevent the constraints from matching"."""
    assert constraints(PROD).matches({"env": "prod", "version": "v2"})


@pytest.mark.parametrize(
    "rules",
    [
        [PROD],
        [PROD, TEST, Not(Single("env"))],
        [both(PROD, V1), both(PROD, NO_VERSION)],
        [both(PROD, V1), both(PROD, Not(V1)), both(Not(PROD), V1), both(Not(PROD), Not(V1))],
    ],
    ids=["one", "values", "a new key on the server first", "the example at the end"],
)
def test_variants_that_exclude_each_other_are_fine(rules: list[Rule]) -> None:
    """E3: as TP2 has them in its examples."""
    assert ambiguity(tuple(map(constraints, rules))) == ""


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (
            [either(PROD, TEST), either(QA, TEST)],
            "'(env=prod or env=test)' and '(env=qa or env=test)' both match 'env=test'",
        ),
        (
            [both(PROD, V1), Single("env", "test"), both(QA, V1)],
            "'(env=prod and version=v1)' and 'env=test' are not of the same keys",
        ),
        ([Not(PROD), Not(TEST)], "'not env=prod' and 'not env=test' both match 'env=testx'"),
        (
            [PROD, Not(Single("env")), Not(either(PROD, TEST))],
            "'not env exists' and 'not (env=prod or env=test)' both match 'no parameters'",
        ),
    ],
    ids=["a value", "keys", "another value", "no value"],
)
def test_variants_that_overlap_have_a_reason(rules: list[Rule], reason: str) -> None:
    """E3: "Control planes must not accept a set of resources that violates this requirement"."""
    assert ambiguity(tuple(map(constraints, rules))) == reason


def test_too_many_comparisons_are_refused() -> None:
    """E3: whoever sets very many variants is not kept waiting for very long."""
    keys = [f"key-{number}" for number in range(10)]
    variants = [both(*(Single(key, value) for key in keys)) for value in "ab"]

    assert ambiguity(tuple(map(constraints, variants))) == (
        f"it would take {2 * 4**10} comparisons to tell them apart"
    )
    assert MOST_COMPARISONS < 2 * 4**10


VALUES = ("a", "b", "other", None)
rules: st.SearchStrategy[Rule] = st.recursive(
    st.builds(Single, st.sampled_from("xy"), st.sampled_from([None, "a", "b"])),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(
            Several,
            st.lists(inner, min_size=1, max_size=3).map(tuple),
            one_is_enough=st.booleans(),
        )
    ),
    max_leaves=6,
)


@given(st.lists(rules, min_size=2, max_size=3))
def test_whoever_is_meant_twice_is_found(several: list[Rule]) -> None:
    """E3: where no reason is given, no client is meant by two variants of a name."""
    variants = tuple(map(constraints, several))
    reason = ambiguity(variants)
    for x, y in product(VALUES, VALUES):
        client = {key: value for key, value in (("x", x), ("y", y)) if value is not None}
        assert sum(each.matches(client) for each in variants) < 2 or reason


def test_same_message_is_the_same_constraints() -> None:
    """E3: they are "part of the cache key", as clients are sent them."""
    assert constraints(PROD) == constraints(Single("env", "prod"))
    assert constraints(PROD) != constraints(TEST)
    assert len({constraints(PROD), constraints(Single("env", "prod"))}) == 1
