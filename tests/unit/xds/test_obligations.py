"""Nothing that a server owes its clients goes unproven: each obligation is cited by a test."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[2]

OWED = (
    *(f"V{number}" for number in range(1, 7)),
    *(f"N{number}" for number in range(1, 6)),
    *(f"A{number}" for number in range(1, 15)),
    *(f"W{number}" for number in range(1, 17)),
    *(f"R{number}" for number in range(1, 7)),
    *(f"C{number}" for number in range(1, 5)),
    *(f"O{number}" for number in range(1, 7)),
    *(f"T{number}" for number in range(1, 5)),
    *(f"D{number}" for number in range(1, 5)),
    *(f"K{number}" for number in range(1, 6)),
    "L1",
    *(f"E{number}" for number in range(1, 6)),
)


def citations() -> dict[str, set[str]]:
    """Return the tests that cite an obligation before the colon of their first sentence."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                cited, _colon, _rule = (ast.get_docstring(node) or "").partition(":")
                for each in re.findall(r"\b[A-Z]\d+\b", cited):
                    found[each].add(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def test_every_obligation_is_proven() -> None:
    """Each obligation that this server has taken upon itself has a test that cites it."""
    cited = citations()
    assert [each for each in OWED if each not in cited] == []
