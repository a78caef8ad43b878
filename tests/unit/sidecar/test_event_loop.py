"""The event loop of a sidecar, and names that are looked up on it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest

from control_plane.event_loop import run
from control_plane.sidecar.event_loop import SidecarEventLoop
from tests.xds_client import PATIENCE

LOOKS_UP = """
import asyncio, socket, threading
from control_plane.event_loop import run
from control_plane.sidecar.event_loop import SidecarEventLoop

def no_answer(*_):
    threading.Event().wait()

async def main():
    asking = asyncio.create_task(asyncio.open_connection("control-plane.example", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    print("told to stop", flush=True)

socket.getaddrinfo = no_answer
run(main(), SidecarEventLoop)
"""
"""A program that ends while no DNS server answers it."""


def test_who_is_told_to_stop_waits_for_no_dns_server() -> None:
    """The lookup is left behind, and the process ends."""
    ran = subprocess.run(
        [sys.executable, "-c", LOOKS_UP],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "told to stop\n", "")


def test_names_are_looked_up_as_ever() -> None:
    """What the system knows is found, and what it does not know is the same error."""

    async def found(host: str) -> list[tuple[object, ...]]:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, 1, type=socket.SOCK_STREAM))

    assert run(found("127.0.0.1"), SidecarEventLoop) == socket.getaddrinfo(
        "127.0.0.1", 1, type=socket.SOCK_STREAM
    )
    with pytest.raises(socket.gaierror):
        run(found("no name.invalid"), SidecarEventLoop)
