"""``c2c serve``: a control plane until somebody says stop."""

from __future__ import annotations

import asyncio
import signal

from control_plane.app.control_plane import ControlPlane
from control_plane.app.process import allow_connections, forbid_dumps
from control_plane.settings import Settings


async def serve(settings: Settings) -> None:
    """Run a control plane until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: something that the settings name cannot be used.
        StorageError: the data directory cannot be written.
    """
    forbid_dumps()
    allow_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    async with ControlPlane(settings):
        await stop.wait()
