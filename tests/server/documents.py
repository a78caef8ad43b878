"""The Python and the bootstrap that the library's document shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"


def examples() -> list[str]:
    """Return all Python that the document shows."""
    return re.findall(
        r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def documented(text: str) -> dict[str, Any]:
    """Run the one example in which a text occurs; return what it defines."""
    (code,) = (each for each in examples() if text in each)
    defined: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, DOCUMENT, "exec"), defined)  # noqa: S102 - what it is about
    return defined


def documented_bootstrap() -> str:
    """Return what an Envoy starts with to ask the server of the first example."""
    (bootstrap,) = re.findall(
        r"^```yaml\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return str(bootstrap)


@asynccontextmanager
async def serving(
    text: str, says: str, capsys: pytest.CaptureFixture[str], *, at: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """Run the main program of an example as long as the block lasts; yield where it serves.

    Args:
        text: what occurs in that example alone.
        says: what it says before its address.
        capsys: what is printed.
        at: where it is to serve.
    """
    running = asyncio.create_task(documented(text)["main"](at))
    said: list[str] = []

    def is_said() -> bool:
        said.append(capsys.readouterr().out)
        return says in "".join(said)

    try:
        await eventually(is_said, "the example says where it serves")
        yield "".join(said).removeprefix(says).strip()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
