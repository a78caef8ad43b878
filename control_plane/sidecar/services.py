"""The services that run beside Envoy and the app, for as long as these run.

The rule of this module: whatever goes wrong in a service is logged, and that service is started
again after a pause, which grows as long as it keeps failing soon. No defect of ours ever ends the
app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.sidecar.retry import delays

LONG_SECONDS = 60.0
"""A service that ran for this long did well: if it fails then, the pauses start short again."""


class Service(Protocol):
    """A service that runs until it is cancelled."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    async def run(self) -> None:
        """Run; this may be called again after it raised."""


async def keep_running(
    services: Iterable[Service], *, clock: Clock, draw: Callable[[], float]
) -> None:
    """Run services until cancelled.

    Args:
        services: the services, each of which runs in a task of its own.
        clock: sleeps between the attempts.
        draw: returns a number from 0 up to 1, another one each time.
    """
    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(_keep(service, clock, draw), name=service.name)


async def _keep(service: Service, clock: Clock, draw: Callable[[], float]) -> None:
    log = structlog.get_logger(__name__)
    pauses = delays(draw)
    while True:
        began = clock.monotonic()
        try:
            await service.run()
        except Exception:
            log.exception(log_events.SIDECAR_SERVICE_FAILED, service=service.name)
        if clock.monotonic() - began >= LONG_SECONDS:
            pauses = delays(draw)
        await clock.sleep(next(pauses))
