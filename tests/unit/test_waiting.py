"""What tests wait for has an end, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from contextlib import suppress

import pytest

from tests import waiting


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exec sleep 60", "after 1 s the script runs"),
        (
            "sleep 60 & sleep 0.2; exit 3",
            "after 1 s the script ended, but its output is still open",
        ),
    ],
    ids=["runs", "output"],
)
async def test_a_process_that_does_not_end_is_told_of(
    monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    """It is said whether it runs, or only somebody that it started has its output; it is killed."""
    monkeypatch.setattr(waiting, "ENDS", 1.0)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=PIPE, start_new_session=True
    )
    with pytest.raises(AssertionError, match=f"^{told}$"):
        await waiting.ended(process, "the script")
    await waiting.eventually(lambda: process.returncode is not None, "the script is killed")
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()


async def test_the_end_of_a_process_is_returned() -> None:
    """Its exit code, or what it wrote."""
    for result in (waiting.ended, waiting.output):
        process = await asyncio.create_subprocess_exec("sh", "-c", "echo here; exit 3", stdout=PIPE)

        assert await result(process, "the script") in (3, (b"here\n", None))
        assert process.returncode == 3
