"""What an earlier run issued: who is left alone after a restart, and how records are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.errors import StorageError
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates import records as module
from control_plane.reconciler.certificates.held import Recorded
from control_plane.reconciler.certificates.records import LARGEST_BATCH, Records
from control_plane.reconciler.certificates.renewals import RETRY
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource_type import SECRET
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import NOON, settled
from tests.unit.reconciler.worlds import C2C_SECRET, DAY, ID_SECRET, Peer, World

B0 = InstanceGuid("b0")
BOTH = (C2C_SECRET, ID_SECRET)

SHORT = timedelta(hours=1)
"""A life whose half is over soon, for the reconciler looks each second."""


@pytest.fixture
def state() -> State:
    """Return app ``b`` with one instance."""
    return register(world("b"), "b0", B, "10.0.1.1")


def before(state: State, lifetime: timedelta = DAY) -> tuple[World, dict[str, str]]:
    """Return a run in which b0 got its secrets, and the versions that it has."""
    first = World(state, lifetime=lifetime)
    peer = first.connect("b0").as_envoy()
    return first, {name: peer.has[SECRET, name].version for name in BOTH}


def secrets_sent(peer: Peer) -> set[str]:
    """Accept what comes, and return the names of the secrets among it."""
    already = {name for _, name in peer.has}
    peer.settle()
    return {name for url, name in peer.has if url == SECRET} - already


async def test_who_has_what_was_recorded_is_left_alone(state: State) -> None:
    """W9's one exception: nothing is issued, nothing is sent, and the instance is up to date."""
    first, has = before(state)
    second = World(state, after=first)
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, *BOTH, has=has)
        await settled()

        assert secrets_sent(peer) == set()
        assert second.reconciler.standing.is_current(B0)
    held = second.custody.get(B0, C2C_SECRET)
    assert isinstance(held, Recorded)
    assert held.version == has[C2C_SECRET]
    assert held.serial == first.leaf("b0").serial


@pytest.mark.parametrize("stated", [{}, {C2C_SECRET: "0123456789abcdef"}])
async def test_who_has_it_not_gets_a_new_certificate(state: State, stated: dict[str, str]) -> None:
    """An Envoy that was started meanwhile, or missed the last rotation; the other secret too."""
    first, _ = before(state)
    second = World(state, after=first)
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, *BOTH, has=stated)
        assert not second.reconciler.standing.is_current(B0)
        await settled()

        assert secrets_sent(peer) == set(BOTH)
    assert second.leaf("b0").serial == second.records[B0, C2C_SECRET].serial


async def test_only_what_is_missing_is_made_anew(state: State) -> None:
    """A client that has one of two secrets keeps that one."""
    first, has = before(state)
    second = World(state, after=first)
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, *BOTH, has={ID_SECRET: has[ID_SECRET]})
        await settled()

        assert secrets_sent(peer) == {C2C_SECRET}
    assert isinstance(second.custody.get(B0, ID_SECRET), Recorded)


async def test_other_names_than_recorded_are_another_certificate(state: State) -> None:
    """A route that was mapped meanwhile gets into the certificate although the old is stated."""
    first, has = before(state)
    second = World(mapping(state, B, "second").state, after=first)
    peer = second.connect("b0")
    peer.ask(SECRET, *BOTH, has=has)

    assert secrets_sent(peer) == {C2C_SECRET}
    assert "second.apps.internal" in second.leaf("b0").san.dns


async def test_a_certificate_of_the_ports_that_is_an_identity_is_replaced(state: State) -> None:
    """Older releases sent one with a SPIFFE id; who has it gets another as soon as it connects."""
    first, has = before(state)
    old = first.records[B0, ID_SECRET]
    uri = "spiffe://c2c.internal/app/b/instance/b0"
    first.records[B0, ID_SECRET] = replace(old, names=(*old.names, uri))
    second = World(state, after=first)
    peer = second.connect("b0")
    peer.ask(SECRET, *BOTH, has=has)

    assert secrets_sent(peer) == {ID_SECRET}


async def test_what_another_ca_signed_is_replaced(state: State) -> None:
    """A certificate that the trust bundle does not stand for is of no use, whoever has it."""
    first, has = before(state)
    second = World(state)
    second.records.update(first.records)
    third = World(state, after=second)
    peer = third.connect("b0")
    peer.ask(SECRET, *BOTH, has=has)

    assert secrets_sent(peer) == set(BOTH)


async def test_what_was_recorded_is_renewed_at_its_own_moment(state: State) -> None:
    """The restart moves nothing: half of the life that began in the run before."""
    first, has = before(state, SHORT)
    second = World(state, lifetime=SHORT, after=first)
    held = first.custody.get(B0, C2C_SECRET)
    assert held is not None
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, *BOTH, has=has)
        await second.clock.advance((held.renew_at - NOON).total_seconds() - 2)
        assert secrets_sent(peer) == set()

        await second.clock.advance(4)

        assert secrets_sent(peer) == set(BOTH)


async def test_if_issuing_fails_what_was_recorded_stays(state: State) -> None:
    """Who has it keeps it, is told of as behind, and gets another as soon as there is one."""
    first, has = before(state)
    second = World(mapping(state, B, "second").state, after=first)
    second.serials.are_bad = True
    async with second.running():
        peer = second.connect("b0")
        peer.ask(SECRET, *BOTH, has=has)
        await settled()
        assert secrets_sent(peer) == set()
        assert "serial" in second.custody.failure(B0)

        second.serials.are_bad = False
        await second.clock.advance(RETRY.total_seconds() + 1)

        assert secrets_sent(peer) == {C2C_SECRET}


class Disk:
    """A store of records that fails while the test says so; has nothing else."""

    def __init__(self) -> None:
        """Start with nothing written."""
        self.batches: list[list[IssuedRecord]] = []
        self.is_full = False
        self.asked = asyncio.Event()

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Write, or say why not."""
        self.asked.set()
        if self.is_full:
            raise StorageError("the change was not written: disk is full")
        await asyncio.sleep(0)
        self.batches.append(list(records))


@asynccontextmanager
async def writing(disk: Disk) -> AsyncIterator[Records]:
    """Let records be written until the block ends, and those that wait then."""
    records = Records(disk)
    work = asyncio.create_task(records.run())
    try:
        yield records
    finally:
        records.close()
        async with asyncio.timeout(5):
            await work


def record(number: int, version: str = "v1") -> IssuedRecord:
    """Return a record of some instance."""
    life = (NOON, NOON + timedelta(hours=24))
    return IssuedRecord(InstanceGuid(f"i{number}"), C2C_SECRET, version, number, (), *life, "ca")


async def test_records_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction, the newest of each secret only, without anybody waiting for it."""
    monkeypatch.setattr(module, "DELAY_SECONDS", 0.01)
    disk = Disk()
    async with writing(disk) as records:
        for number in range(3):
            records.note(record(number))
        records.note(record(0, "v2"))
        assert disk.batches == []
        async with asyncio.timeout(5):
            await disk.asked.wait()
        await settled()

        assert disk.batches == [[record(0, "v2"), record(1), record(2)]]


async def test_what_waits_is_written_at_the_end() -> None:
    """A stop that is asked for loses nothing, and does not sit out the delay for more."""
    disk = Disk()
    async with writing(disk) as records:
        await settled()
        records.note(record(1))

    assert disk.batches == [[record(1)]]


async def test_many_records_leave_the_disk_to_others_in_between() -> None:
    """A rotation of a whole fleet is written in transactions of bounded size."""
    disk = Disk()
    async with writing(disk) as records:
        for number in range(LARGEST_BATCH + 1):
            records.note(record(number))

    assert [len(batch) for batch in disk.batches] == [LARGEST_BATCH, 1]


async def test_records_that_cannot_be_written_are_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest of each secret, as soon as the disk takes it; nobody else notices."""
    monkeypatch.setattr(module, "DELAY_SECONDS", 0)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    disk = Disk()
    disk.is_full = True
    async with writing(disk) as records:
        records.note(record(1))
        records.note(record(2))
        async with asyncio.timeout(5):
            await disk.asked.wait()
        records.note(record(2, "v2"))
        disk.is_full = False
        disk.asked.clear()
        async with asyncio.timeout(5):
            await disk.asked.wait()
        await settled()

        assert disk.batches == [[record(1), record(2, "v2")]]


async def test_a_disk_that_stays_full_holds_up_no_stop() -> None:
    """What waits at the end is tried once more, and then given up."""
    disk = Disk()
    disk.is_full = True
    async with writing(disk) as records:
        records.note(record(1))

    assert disk.asked.is_set()
    assert disk.batches == []
