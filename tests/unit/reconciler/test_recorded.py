"""After a kill no name leads to a certificate without it, whichever records were yet to be written.

The instance ``b0`` has what its newest certificate says; what the disk says of it is older.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.errors import StorageError
from control_plane.model.change import Change
from control_plane.model.entities import InstanceStatus, RouteMapping
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import AppGuid, Hostname, InstanceGuid
from control_plane.reconciler.certificates.recorded import RecordedChanges
from control_plane.reconciler.certificates.records import Records
from control_plane.reconciler.publication.recovery import uncertified, unmapped
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import A, B, register, world
from tests.unit.reconciler.faulty import Faulty
from tests.unit.reconciler.test_recovery import record

B0 = InstanceGuid("b0")
API, SHOP = Hostname("api.apps.internal"), Hostname("shop.apps.internal")


class Disk:
    """A store, records for it that nobody writes, and what they are put together by."""

    def __init__(self, store: Faulty, state: State) -> None:
        """Take a store that has this State."""
        self.store = store
        self.state = state
        self.records = Records(store)
        self.recorded = RecordedChanges(store, self.records, lambda: self.state)

    async def map(self, *hosts: Hostname, app: AppGuid = B) -> None:
        """Map routes."""
        await self.recorded.commit(Change(puts=tuple(RouteMapping(each, app) for each in hosts)))

    async def unmap(self, *hosts: Hostname) -> None:
        """Unmap routes."""
        await self.recorded.commit(Change(drops=tuple(RouteMapping(each, B) for each in hosts)))

    async def killed(self) -> tuple[State, Sequence[IssuedRecord]]:
        """Return what a start after a kill finds."""
        return State.of(await self.store.load()), await self.store.issued()


@asynccontextmanager
async def a_disk(directory: Path) -> AsyncIterator[Disk]:
    """Run with app ``b``, its one instance, and another app."""
    state = register(world("a", "b"), B0, B, "10.0.1.1")
    state = set_status(state, B0, InstanceStatus.READY).state
    store = await Faulty.holding(state, directory)
    disk = Disk(store, state)
    try:
        yield disk
    finally:
        await disk.store.close()


async def test_a_name_that_a_certificate_lost_is_not_sure_after_a_kill(tmp_path: Path) -> None:
    """It is mapped again before the record is there that says that it was lost."""
    async with a_disk(tmp_path) as disk:
        await disk.map(API, SHOP)
        await disk.store.record_issued([record(API, SHOP)])
        assert await disk.store.issued() == [record(API, SHOP)]
        await disk.unmap(API)
        disk.records.note(record(SHOP))

        await disk.map(API)

        state, records = await disk.killed()
        assert {app: dict(of) for app, of in uncertified(state, records).items()} == {
            B: {B0: {API}}
        }


async def test_a_name_that_a_certificate_has_lingers_after_a_kill(tmp_path: Path) -> None:
    """It is unmapped before the record is there of the certificate that brought it."""
    async with a_disk(tmp_path) as disk:
        await disk.map(SHOP)
        await disk.store.record_issued([record(SHOP)])
        await disk.map(API)
        disk.records.note(record(API, SHOP))

        await disk.unmap(API)

        state, records = await disk.killed()
        assert unmapped(state, records) == {B0: {API}}


async def test_other_changes_bring_no_records_along(tmp_path: Path) -> None:
    """Those of other apps wait as ever, and so do those of other secrets."""
    async with a_disk(tmp_path) as disk:
        disk.records.note(record(SHOP))
        disk.records.note(record(SHOP, secret="id-cert-and-key"))

        await disk.map(API, app=A)
        assert await disk.store.issued() == []
        await disk.map(API)

        assert [each.secret for each in await disk.store.issued()] == ["c2c-cert-and-key"]
        assert disk.records.waiting_of([B0]) == ()


async def test_an_instance_is_registered_with_the_record_of_its_identity(tmp_path: Path) -> None:
    """One that was decided and never registered leaves none."""
    async with a_disk(tmp_path) as disk:
        first = record(guid="b1", secret="identity")
        disk.recorded.note_first(first)
        disk.recorded.note_first(record(guid="b9", secret="identity"))
        state = register(disk.state, InstanceGuid("b1"), B, "10.0.1.2")
        await disk.recorded.commit(Change(puts=(state.instances[InstanceGuid("b1")],)))
        assert await disk.store.issued() == [first]

        state = register(state, InstanceGuid("b9"), B, "10.0.1.3")
        await disk.recorded.commit(Change(puts=(state.instances[InstanceGuid("b9")],)))

        assert await disk.store.issued() == [first]


async def test_a_change_that_is_not_written_leaves_the_records_waiting(tmp_path: Path) -> None:
    """Both are written or neither is."""
    async with a_disk(tmp_path) as disk:
        disk.records.note(record(SHOP))
        disk.store.failures = 1

        with pytest.raises(StorageError):
            await disk.map(API)

        assert await disk.store.issued() == []
        assert disk.records.waiting_of([B0]) == (record(SHOP),)


async def test_a_record_that_comes_meanwhile_waits_for_its_own_turn(tmp_path: Path) -> None:
    """What was written is the one before it."""
    async with a_disk(tmp_path) as disk:
        older, newer = record(SHOP), record(API, SHOP)
        disk.records.note(older)
        disk.records.note(newer)

        disk.records.written([older])

        assert disk.records.waiting_of([B0]) == (newer,)
