"""The installed ``c2c`` in a process of its own, as a person runs it against a control plane."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.envoy.harness import DEADLINE, until
from tests.hangup import interruptible
from tests.installed import C2C
from tests.sidecar.platform import Platform
from tests.waiting import ended


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        """Return what was printed; nothing else was."""
        return json.loads(self.out)


async def c2c(cf: Platform, *words: str, columns: int = 200) -> Ran:
    """Run a command line to its end, where there are so many columns."""
    async with running(cf, *words, columns=columns) as process, asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running(
    cf: Platform,
    *words: str,
    terminal: int = asyncio.subprocess.PIPE,
    columns: int = 200,
    term: str = "xterm",
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command line, and end it with the block.

    Args:
        terminal: where it writes to; read by the test if it is none.
        columns: how much room it has there.
        term: what kind of terminal it is.
    """
    variables = {"C2C_DATA_DIR": str(cf.settings.data_dir), "PYTHONUNBUFFERED": "1"}
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            C2C,
            *words,
            env={**os.environ, **variables, "TERM": term, "COLUMNS": str(columns)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process, f"c2c {' '.join(words)}")


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        """Open it."""
        self._ours, self.theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._written = b""
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def shows(self, text: str) -> bool:
        """Tell whether something was written."""
        return text.encode() in self._written

    async def until_it_shows(self, text: str) -> None:
        """Wait until something is written."""

        async def probe() -> bool:
            return self.shows(text)

        await until(probe, what=f"the screen shows {text!r}")

    def count(self, text: str) -> int:
        """Return how often something was written."""
        return self._written.count(text.encode())

    def clear(self) -> None:
        """Forget what was written so far."""
        self._written = b""

    def close(self) -> None:
        """Close both ends."""
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self.theirs)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nothing is there, or nobody at the other end any more
            self._written += os.read(self._ours, 65_536)
