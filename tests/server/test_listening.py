"""How servers begin to listen."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import grpc
import pytest

from control_plane.app import ControlPlane
from control_plane.settings import Settings, SocketAddress

LOOPBACK = SocketAddress("127.0.0.1", 0)


def _settings(directory: Path) -> Settings:
    """Return settings for any ports of loopback."""
    return Settings(
        data_dir=directory,
        xds_address=LOOPBACK,
        enroll_address=LOOPBACK,
        http_address=LOOPBACK,
        admin_address=LOOPBACK,
    )


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_start_that_is_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Ctrl-C while a server starts: no port stays open, no task, and no error that nobody took."""
    starts: list[grpc.aio.Server] = []
    made = type(grpc.aio.server())
    original = made.start

    async def start(server: grpc.aio.Server) -> None:
        starts.append(server)
        if len(starts) == at:
            starting.cancel()
        await original(server)

    monkeypatch.setattr(made, "start", start)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    plane = ControlPlane(_settings(tmp_path))
    starting = asyncio.ensure_future(plane.__aenter__())
    with pytest.raises(asyncio.CancelledError):
        await starting
    gc.collect()

    assert complaints == []
    assert len(starts) == at
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for address in (plane.xds_address, plane.enroll_address):
        if address.port:
            socket.create_server((address.host, address.port)).close()
