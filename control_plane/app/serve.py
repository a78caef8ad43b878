"""``c2c serve``: a control plane that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal

import structlog

from control_plane import log_events
from control_plane.app.control_plane import ControlPlane
from control_plane.app.process import allow_connections, search_memory_less, why_too_few
from control_plane.errors import ControlPlaneError
from control_plane.reconciler.certificates.dumps import forbid_dumps
from control_plane.settings import Settings
from control_plane.supervisor import READY, STOPPING, tell_supervisor


class ControlPlaneDied(ControlPlaneError):
    """An essential part of the control plane died."""

    def __init__(self, task: str) -> None:
        """Name the part."""
        super().__init__(f"the {task} of the control plane died, and the log says of what")


async def serve(settings: Settings) -> None:
    """Run a control plane until SIGTERM or SIGINT, or SIGHUP where that is not ignored.

    Raises:
        ControlPlaneDied: a part of it died, so it was stopped.
        ConfigurationError: something that the settings name cannot be used, or the system allows
            too few open files.
        StorageError: the data directory cannot be written.
    """
    forbid_dumps()
    files = allow_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    # So closing a terminal ends the server that runs on it, unless it was started with nohup.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    async with ControlPlane(settings) as plane:
        search_memory_less()
        if reason := why_too_few(files, len(plane.core.registry.state.instances)):
            log = structlog.get_logger(__name__)
            log.warning(log_events.SETTING_WARNED, setting="ulimit -n", reason=reason)
        tell_supervisor(READY)
        died = await _first_of(stop, plane)
        tell_supervisor(STOPPING)
    if died:
        raise ControlPlaneDied(died)


async def _first_of(stop: asyncio.Event, plane: ControlPlane) -> str:
    """Return the name of a task that died, or "" if a signal asked for the end."""
    death = asyncio.create_task(plane.death())
    asked = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({death, asked}, return_when=asyncio.FIRST_COMPLETED)
    for each in (death, asked):
        each.cancel()
    return death.result() if death in done else ""
