"""The real services on a Unix socket, and the command line as a person runs it against them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from control_plane.names import Domain
from tests.api.world import ENROLL, ControlPlane, control_plane
from tests.unit.cli.running import Ran, Run, run_c2c

DOMAINS = (Domain("apps.internal"), Domain("mesh.example"))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Servers in this process do not log where a command prints."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture
def enroll() -> str:
    """Return where sidecars are told to enrol; a test may be parametrized with another place."""
    return ENROLL


@pytest.fixture
def world(tmp_path: Path, enroll: str) -> Iterator[ControlPlane]:
    """Serve the operator's API from another thread, as another process would."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = control_plane(tmp_path, DOMAINS, enroll=enroll)
    try:
        yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(20)
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@pytest.fixture
def c2c(world: ControlPlane) -> Run:
    """Run command lines against it."""

    def run(*args: str, **variables: str) -> Ran:
        return run_c2c(*args, C2C_DATA_DIR=str(world.socket.parent), **variables)

    return run
