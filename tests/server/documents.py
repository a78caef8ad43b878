"""The Python that the library's document shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"


def documented(text: str) -> dict[str, Any]:
    """Run the one example in which a text occurs; return what it defines."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    (code,) = (each for each in blocks if text in each)
    defined: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, DOCUMENT, "exec"), defined)  # noqa: S102 - what it is about
    return defined
