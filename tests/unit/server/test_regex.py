"""Callers' regular expressions: what they match, what is refused, and that none takes for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import InvalidArgument
from control_plane.server.regex import MAX_STEPS, Regex
from control_plane.server.regex_syntax import MAX_DEPTH, MAX_PATTERN_OCTETS, MAX_REPEAT
from tests.fuzz.budget import PARSER

GUID = "96cb38af-76a5-4b57-9bc3-8bcb6b5053ea"

ONES = st.sampled_from(
    ["a", "b", "0", "-", ".", r"\d", r"\w", r"\S", r"\.", "[ab]", "[^a0]", r"[\d_-]", "[]b]", "^"]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeats = st.sampled_from(["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}"])
    return st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda ways: f"(?:{'|'.join(ways)})"),
        st.tuples(inner, repeats).map(lambda both: f"({both[0]}){both[1]}"),
    )


PATTERNS = st.recursive(ONES, _grown, max_leaves=8)


@PARSER
@given(PATTERNS, st.text(alphabet="ab0-._ \n", max_size=6))
def test_it_matches_as_others_do(pattern: str, text: str) -> None:
    """Where Python's own means the same, both say the same of every text."""
    python = re.compile(f"(?:{pattern})", re.ASCII)

    if pattern:
        assert Regex(pattern).matches(text) is (python.fullmatch(text) is not None)


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        ("app-b", ["app-b"], ["app-bb", "xapp-b", ""]),
        (f"{GUID}|x", [GUID, "x"], ["", f"{GUID}x"]),
        ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", [GUID], [GUID.upper(), GUID[1:]]),
        ("^(a|b)+$", ["ab", "b"], ["", "abc"]),
        ("a$b|^", [""], ["ab", "a", "b"]),
        ("a{,2}", ["a{,2}"], ["", "a", "aa"]),
        ("a{0}b", ["b"], ["ab"]),
        (".*", ["", "x", "ä"], ["\n"]),
        (r"\D\W\S\s\t", ["x-y \t"], ["1-y \t", "xay \t"]),
        (r"[^\d]", ["x"], ["1", "xx"]),
        (r"[\]a-c\-]+", ["]b-"], ["d", "["]),
        (r"()|(a|)", ["", "a"], ["aa"]),
    ],
)
def test_what_it_matches(pattern: str, matched: list[str], unmatched: list[str]) -> None:
    """All of the text, as RE2 has it."""
    regex = Regex(pattern)

    assert [text for text in matched if not regex.matches(text)] == []
    assert [text for text in unmatched if regex.matches(text)] == []


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)*x", ".*.*.*.*.*.*b", "(a?){90}a{90}b"]
)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """One that goes back and tries again would not come to an end here."""
    assert not Regex(pattern).matches("a" * 5000)


def test_what_is_remembered_of_texts_has_a_bound() -> None:
    """A pattern is matched on as many different texts as there are nodes."""
    regex = Regex("(.*b|.*c)?.{3}")
    texts = [f"{chr(0x100 + number)}b" * 3 + "xyz" for number in range(1000)]

    assert all(regex.matches(text) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("a)", "a ) without its ("),
        ("(a", "a ( without its )"),
        ("(?i)a", "a group with a flag or a name"),
        ("(?P<x>a)", "a group with a flag or a name"),
        ("*a", "* with nothing to repeat"),
        ("a|+", "+ with nothing to repeat"),
        ("a**", "a repetition of a repetition"),
        ("a*??", "a repetition of a repetition"),
        ("a{2}{3}", "a repetition of a repetition"),
        ("a{2,1}", f"a repetition that is not from m to n times, up to {MAX_REPEAT}"),
        ("a{1001}", f"a repetition that is not from m to n times, up to {MAX_REPEAT}"),
        ("[a", "an end where more has to come"),
        ("[", "an end where more has to come"),
        ("a\\", "an end where more has to come"),
        ("[[:alpha:]]", "a named class"),
        ("[b-a]", "a range that does not go from one character to a later one"),
        (r"[!-\d]", "a range that does not go from one character to a later one"),
        (r"[\w-z]", "a range that does not go from one character to a later one"),
        (r"\1", r"\1"),
        (r"\bx", r"\b"),
        (r"\pL", r"\p"),
        ("(" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} groups in each other"),
    ],
)
def test_what_is_not_understood_is_refused(pattern: str, what: str) -> None:
    """With what it is; nothing is taken for something else."""
    with pytest.raises(InvalidArgument) as refused:
        Regex(pattern, field="node_matchers")

    assert str(refused.value).startswith(f"this regular expression cannot be matched, for {what}: ")
    assert refused.value.field == "node_matchers"


@pytest.mark.parametrize("pattern", ["", "a" * (MAX_PATTERN_OCTETS + 1), "ä" * MAX_PATTERN_OCTETS])
def test_a_pattern_has_a_length(pattern: str) -> None:
    """Some text, and no more than is written by hand."""
    sentence = f"a regular expression must have 1 to {MAX_PATTERN_OCTETS} octets"
    with pytest.raises(InvalidArgument, match=sentence):
        Regex(pattern)


@pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "((){1000}){1000}", "(a{0,9}){99}"])
def test_repetitions_have_a_bound_together(pattern: str) -> None:
    """They are written out, so a short pattern could come to a lot."""
    assert len(pattern) < MAX_STEPS
    with pytest.raises(InvalidArgument, match="repeats too much to be matched"):
        Regex(pattern)
