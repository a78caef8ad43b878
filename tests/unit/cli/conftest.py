"""The command line as a person runs it, against the real services on a Unix socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from control_plane.cli.main import program
from control_plane.names import Domain
from tests.api.world import ENROLL, ControlPlane, control_plane

DOMAINS = (Domain("apps.internal"), Domain("mesh.example"))


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    def json(self) -> list[dict[str, Any]]:
        """Return the list that was printed; nothing else was."""
        assert (self.code, self.err) == (0, "")

        found: list[dict[str, Any]] = json.loads(self.out)
        return found


Run = Callable[..., Ran]


def run_c2c(*args: str, **variables: str) -> Ran:
    """Run one command line in this process, with these variables and no others of ours."""
    environ = {
        "HOME": "/nonexistent",
        "XDG_STATE_HOME": None,
        "COLUMNS": None,
        **{f"C2C_{name}": None for name in ("DATA_DIR", "CONFIG", "SERVER", "ORG", "SPACE")},
        **variables,
    }
    result = CliRunner().invoke(program, args, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


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
