"""How records of certificates get to the disk: later than the work that makes them.

The rule of this module: nobody waits for a record. Those of a quarter of a second are written
together, and again after a while if the disk did not take them. Whoever needs them on the disk
before that (``recorded``) writes them too. One that is lost in a kill costs its instance a new
certificate after the next start, before which no new name leads there; it costs nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

import structlog

from control_plane import log_events
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.errors import StorageError
from control_plane.names import InstanceGuid
from control_plane.store.protocol import IssuedRecord

DELAY_SECONDS = 0.25
"""How long a record waits for others, so that it is not in the way of the command it is due to."""

RETRY_SECONDS = 5.0
"""When records that the disk did not take are written again."""

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

    def waiting_of(self, instances: Iterable[InstanceGuid]) -> tuple[IssuedRecord, ...]:
        """Return what is not on the disk yet of the C2C certificates of some instances."""
        found = (self._waiting.get((each, C2C_SECRET)) for each in instances)
        return tuple(each for each in found if each is not None)

    def written(self, records: Iterable[IssuedRecord]) -> None:
        """Note that records are on the disk; those that were replaced meanwhile go on waiting."""
        for each in records:
            key = each.instance_guid, each.secret
            if self._waiting.get(key) is each:
                del self._waiting[key]

    def close(self) -> None:
        """Let ``run`` return when those that wait are written, or were tried once more."""
        self._closed.set()
        self._any.set()

    async def run(self) -> None:
        """Write records until closed; exactly one task has to run this."""
        while self._waiting or not self._closed.is_set():
            await self._any.wait()
            await self._pause(DELAY_SECONDS)
            self._any.clear()
            while self._waiting and await self._write():
                pass
            if self._waiting:
                if self._closed.is_set():
                    return
                await self._pause(RETRY_SECONDS)
                self._any.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _write(self) -> bool:
        """Write some; they go on waiting until they are on the disk."""
        records = list(islice(self._waiting.values(), LARGEST_BATCH))
        try:
            await self._disk.record_issued(records)
        except StorageError as error:
            self._log.warning(log_events.STORE_FAILED, reason=str(error), records=len(records))
            return False
        self.written(records)
        return True
