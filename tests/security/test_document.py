"""docs/security.md names a test for each of its claims, and each of them exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)

THREATS = (
    "Node spoofing",
    "Secret enumeration",
    "A stolen certificate",
    "Token theft",
    "Replay",
    "Oversize and slow clients",
    "Reflection and CSDS as a leak",
    "Log injection by the text of a NACK",
    "A CA that has to go",
    "Keys at rest",
)


@functools.cache
def names_in(path: Path) -> set[str]:
    """Return the names of the functions in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {each.name for each in tree.body if isinstance(each, functions)}


def test_every_test_that_the_document_names_exists() -> None:
    """No claim rests on a test that was renamed or removed."""
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or name not in names_in(ROOT / path)
    ]

    assert len(NAMED) > 50
    assert missing == []


def test_every_threat_is_written_down_with_its_proof() -> None:
    """Each section of the threats says what stops it, and names at least one test."""
    sections = dict(
        section.partition("\n")[::2] for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)
    )

    assert [each for each in THREATS if "::test_" not in sections.get(each, "")] == []


def test_every_security_test_is_in_the_document() -> None:
    """Whoever adds a test here says in the document what it proves."""
    here = Path(__file__).parent
    written = {
        (f"tests/security/{path.name}", name)
        for path in here.glob("test_*.py")
        if path != Path(__file__)
        for name in names_in(path)
        if name.startswith("test_")
    }

    assert sorted(written - set(NAMED)) == []
