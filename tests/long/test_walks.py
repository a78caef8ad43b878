"""Commands, crashes and restarts in an order that nobody thought of.

``make test-long`` goes far; otherwise it is a few steps.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.long.walk import a_walk
from tests.promises import none_failed

IS_LONG = bool(os.environ.get("C2C_TEST_LONG"))

STEPS = 40 if IS_LONG else 6


@pytest.mark.parametrize("seed", range(3 if IS_LONG else 1))
async def test_whatever_happens_elsewhere_no_call_fails(tmp_path: Path, seed: int) -> None:
    """After each step all find and reach whom they may, and nobody else; no steady call fails."""
    async with a_walk(tmp_path, seed) as walk:
        async with walk.calls() as calls:
            for _ in range(STEPS):
                await walk.step()

        none_failed(calls)
        assert calls.done > STEPS
