"""How records of certificates get to the disk: later than the work that makes them.

The rule of this module: nobody waits for a record. Those of a quarter of a second are written
together. One that is lost (the process was killed, the disk is full) costs its instance a new
certificate after the next start, before which no new name leads there; it costs nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

import structlog

from control_plane import log_events
from control_plane.errors import StorageError
from control_plane.names import InstanceGuid
from control_plane.store.protocol import IssuedRecord

DELAY_SECONDS = 0.25
"""How long a record waits for others, so that it is not in the way of the command it is due to."""

LARGEST_BATCH = 500
"""Records in one transaction; a command that comes meanwhile waits some 10 ms for it."""


class Disk(Protocol):
    """The part of a store that is needed here."""

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Remember certificates, as ``Store`` does."""


class Records:
    """Takes records at once, and has them written by ``run``."""

    def __init__(self, disk: Disk) -> None:
        """Start with nothing to write."""
        self._disk = disk
        self._waiting: dict[tuple[InstanceGuid, str], IssuedRecord] = {}
        self._any = asyncio.Event()
        self._closed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def note(self, record: IssuedRecord) -> None:
        """Take a record, instead of the one before of its instance and secret."""
        self._waiting[record.instance_guid, record.secret] = record
        self._any.set()

    def close(self) -> None:
        """Let ``run`` return when those that wait are written."""
        self._closed.set()
        self._any.set()

    async def run(self) -> None:
        """Write records until closed; exactly one task has to run this."""
        while self._waiting or not self._closed.is_set():
            await self._any.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(DELAY_SECONDS):
                    await self._closed.wait()
            self._any.clear()
            while self._waiting:
                await self._write()

    async def _write(self) -> None:
        keys = list(islice(self._waiting, LARGEST_BATCH))
        records = [self._waiting.pop(key) for key in keys]
        try:
            await self._disk.record_issued(records)
        except StorageError as error:
            self._log.warning(log_events.STORE_FAILED, reason=str(error), records=len(records))
