"""Tasks that run as long as the control plane does.

The rule of this module: a control plane of which a part is dead looks alive and does nothing, so
this must not happen. A task that ends without being told to, in whichever way, is a defect: it is
logged with its name and its exception, and the whole process ends. Whatever started the process
starts it again, and Envoy serves on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from control_plane import log_events


class Lifelong:
    """Tasks by name, and the names of those that died."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        """Start without tasks.

        Args:
            on_death: called at once when a task dies, before anything else is done about it.
        """
        self._on_death = on_death
        self._told_to_end: set[asyncio.Task[None]] = set()
        self._dead: asyncio.Queue[str] = asyncio.Queue()
        self._log = structlog.get_logger(__name__)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        """Cancel a task, and wait for its end."""
        self._told_to_end.add(task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def finish(self, task: asyncio.Task[None], close: Callable[[], None]) -> None:
        """Let a task end by itself, after it was told to.

        Args:
            task: the task.
            close: tells the task to end.
        """
        self._told_to_end.add(task)
        close()
        await asyncio.gather(task, return_exceptions=True)

    async def death(self) -> str:
        """Return the name of a task once it has died."""
        return await self._dead.get()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task in self._told_to_end and error is None:
            return
        self._on_death()
        self._log.error(log_events.TASK_DIED, task=task.get_name(), exc_info=error)
        self._dead.put_nowait(task.get_name())
