"""The control plane that the tests of a module call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.fuzz.plane import Plane, running


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Run a control plane for all tests of a module."""
    loop = asyncio.new_event_loop()
    around = running(tmp_path_factory.mktemp("fuzz"))
    try:
        made = loop.run_until_complete(around.__aenter__())
        yield made
        loop.run_until_complete(around.__aexit__(None, None, None))
    finally:
        loop.close()
