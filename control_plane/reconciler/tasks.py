"""Work that goes on beside the loop: at most one task for each subject.

The rule of this module: starting work on a subject stops what was under way for it. Finished work
is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable, ItemsView
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Tasks(Generic[K]):
    """The work under way, by its subject."""

    def __init__(self) -> None:
        """Start with nothing under way."""
        self._by_subject: dict[K, asyncio.Task[None]] = {}

    def __contains__(self, subject: K) -> bool:
        """Tell whether work on a subject is under way."""
        return subject in self._by_subject

    def items(self) -> ItemsView[K, asyncio.Task[None]]:
        """Return each subject with its task."""
        return self._by_subject.items()

    def start(self, subject: K, work: Coroutine[Any, Any, None]) -> None:
        """Start this work on a subject, in place of any that was under way for it."""
        self.stop(subject)
        task = asyncio.get_running_loop().create_task(work)
        self._by_subject[subject] = task
        task.add_done_callback(partial(self._ended, subject))

    def stop(self, subject: K) -> None:
        """Stop the work on a subject, if there is any."""
        task = self._by_subject.pop(subject, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop all work, and return when it has ended."""
        tasks = tuple(self._by_subject.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, subject: K, task: asyncio.Task[None]) -> None:
        if self._by_subject.get(subject) is task:
            del self._by_subject[subject]
