"""How certificate records get to disk: later than the work that makes them.

The rule of this module: nobody waits for a record. The records of a quarter of a second are written
together, and again after a while if the disk did not take them. A change that needs them on disk
earlier (``recorded``) writes them itself. If a record is lost in a kill, its instance gets a new
certificate after the next start, and no new name leads there before that; nothing else is lost.
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
"""How long a record waits for others, so that writing it does not delay the command that caused
it."""

RETRY_SECONDS = 5.0
"""After how many seconds records that the disk did not take are written again."""

LARGEST_BATCH = 500
"""How many records one transaction has at most; a command that arrives meanwhile waits some 10 ms
for it."""


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
        """Take a record, in place of the previous one of its instance and secret."""
        self._waiting[record.instance_guid, record.secret] = record
        self._any.set()

    def waiting_of(self, instances: Iterable[InstanceGuid]) -> tuple[IssuedRecord, ...]:
        """Return the records of some instances' C2C certificates that are not on disk yet."""
        found = (self._waiting.get((each, C2C_SECRET)) for each in instances)
        return tuple(each for each in found if each is not None)

    def written(self, records: Iterable[IssuedRecord]) -> None:
        """Note that records are on disk; a newer record of the same secret goes on waiting."""
        for each in records:
            key = each.instance_guid, each.secret
            if self._waiting.get(key) is each:
                del self._waiting[key]

    def close(self) -> None:
        """Have ``run`` return once the waiting records are written, or one more attempt failed."""
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
        """Write some of the waiting records; they go on waiting until they are on disk."""
        records = list(islice(self._waiting.values(), LARGEST_BATCH))
        try:
            await self._disk.record_issued(records)
        except StorageError as error:
            self._log.warning(log_events.STORE_FAILED, reason=str(error), records=len(records))
            return False
        self.written(records)
        return True
