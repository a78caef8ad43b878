"""One command line, run in this process as a person runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from control_plane.cli.main import program


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
