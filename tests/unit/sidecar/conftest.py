"""What tests of several modules of the sidecar need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@pytest.fixture
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no thread write files: a clock that the test moves would not wait for it."""

    async def here(
        work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        return work(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", here)
