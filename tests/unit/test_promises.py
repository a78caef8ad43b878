"""What the documentation says is proved has a test of that name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CITATION = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_is_cited_exists() -> None:
    """A promise whose test was renamed or dropped is a promise no more."""
    cited = [
        (page.name, *found)
        for page in sorted((ROOT / "docs").glob("*.md"))
        for found in CITATION.findall(page.read_text(encoding="utf-8"))
    ]

    missing = [
        f"{page}: {path}::{name}"
        for page, path, name in cited
        if f"def {name}(" not in _text(ROOT / path)
    ]

    assert missing == []
    assert len(cited) > 30


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
