"""What systemd is told of a sidecar that it started as a service of ``Type=notify``."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from tests.envoy.harness import unique_address
from tests.sidecar.process import sidecar
from tests.sidecar.scene import scene
from tests.supervisor import supervisor, was_told_no_more


async def test_a_start_is_told_once_the_app_runs(tmp_path: Path) -> None:
    """So systemctl start returns then and not before; the end is told too, and once each."""
    address, end = str(tmp_path / "notify"), tmp_path / "end"
    os.mkfifo(end)
    app = ("sh", "-c", f"read code < {end}; exit $code")
    async with scene(tmp_path, app=None) as here:
        with supervisor(address) as told:
            variables = {"NOTIFY_SOCKET": address}
            async with here.instance(command=app, variables=variables) as instance:
                assert await asyncio.to_thread(told.recv, 100) == b"READY=1"
                # Only a process that reads from it lets this be opened.
                await asyncio.to_thread(end.write_text, "7\n")
                assert await asyncio.to_thread(told.recv, 100) == b"STOPPING=1"
                assert await instance.ended() == 7
            was_told_no_more(told)


async def test_a_start_that_is_refused_is_never_told(tmp_path: Path) -> None:
    """Whoever starts it with a wrong token learns that from the command that does it."""
    address = str(tmp_path / "notify")
    async with scene(tmp_path, app=None) as here:
        ticket = replace(await here.cf.ticket("app-b"), token="c2cjt_of-nobody")
        with supervisor(address) as told:
            variables = {"NOTIFY_SOCKET": address}
            options = ("--address", unique_address())
            directory = tmp_path / "sidecar"
            async with sidecar(ticket, directory, *options, variables=variables) as instance:
                assert await instance.ended() == 1
            was_told_no_more(told)
