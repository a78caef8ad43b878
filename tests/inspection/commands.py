"""The installed ``c2c`` in a process of its own, as a person runs it against a control plane."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.envoy.harness import DEADLINE
from tests.sidecar.platform import Platform
from tests.sidecar.process import C2C


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        """Return what was printed; nothing else was."""
        return json.loads(self.out)


async def c2c(cf: Platform, *words: str) -> Ran:
    """Run a command line to its end."""
    async with running(cf, *words) as process, asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running(cf: Platform, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command line, and end it with the block."""
    variables = {"C2C_DATA_DIR": str(cf.settings.data_dir), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        C2C,
        *words,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
