"""How long a removal is remembered: as long as the identities of the instance may live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.model.change import Change, Decision, decide
from control_plane.model.entities import DrainingCaller, Tombstone
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.certificates.ledger import Ledger
from control_plane.reconciler.membership.tombstones import PERIOD_SECONDS, Tombstones
from control_plane.registry import Registry
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import A, B, entities_of, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.faulty import Faulty, working

B0 = InstanceGuid("b0")
HOUR = timedelta(hours=1)
IDENTITY_RECORD = IssuedRecord(B0, IDENTITY, "", 1, ("b0",), NOON - HOUR, NOON + 5 * HOUR, "ca")


class Plane:
    """A registry over a real store, whose removals leave tombstones that are forgotten in time."""

    def __init__(self, store: Faulty, state: State, *records: IssuedRecord) -> None:
        """Take what was read from disk."""
        self.store = store
        self.clock = ManualClock()
        holdings = Holdings(Ledger(self.clock), records)
        self.tombstones = Tombstones(holdings, HOUR, self.clock)
        self.registry = Registry(state, store, lambda _, decision: self.tombstones.amend(decision))
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.registry.subscribe(lambda _, change: self.changes.put_nowait(change))

    async def remove(self) -> Tombstone:
        """Remove the instance, and return what it leaves."""
        await self.registry.execute(lambda state: remove_instance(state, B0))
        await self.changes.get()
        (left,) = self.registry.state.all_tombstones()
        return left

    async def forgotten(self) -> Tombstone:
        """Wait until a tombstone is forgotten, and return which one it is."""
        async with asyncio.timeout(5):
            (gone,) = (await self.changes.get()).drops
        assert isinstance(gone, Tombstone)
        return gone

    async def caught_up(self) -> None:
        """Return once all that was to be written by now is."""
        await self.registry.execute(lambda state: Decision(state, None))


@asynccontextmanager
async def plane(directory: Path, *records: IssuedRecord) -> AsyncIterator[Plane]:
    """Run one until the block ends; at first it has app b with one instance."""
    store = await Faulty.open(directory / "data" / "c2c.db")
    entities = await store.load()
    state = State.of(entities) if entities else register(world("b"), B0, B, "10.0.1.1")
    if not entities:
        await store.commit(Change(puts=entities_of(state)))
    made = Plane(store, state, *records)
    async with working(store, made.registry.run(), made.tombstones.run(made.registry)):
        yield made


async def test_a_removal_is_remembered_for_the_life_of_an_identity(tmp_path: Path) -> None:
    """One that was issued a moment ago lives for so long, whether its record was written or not."""
    async with plane(tmp_path) as here:
        assert await here.remove() == Tombstone(B0, B, NOON + HOUR)


async def test_whose_identity_was_given_to_nobody_leaves_nothing(tmp_path: Path) -> None:
    """Nobody can prove to have been it; a later one of its name can."""
    async with plane(tmp_path) as here:
        with here.tombstones.unneeded(B0):
            await here.registry.execute(lambda state: remove_instance(state, B0))
        assert list(here.registry.state.all_tombstones()) == []

        await here.registry.execute(lambda s: register_instance(s, B0, B, "10.0.1.1"))
        assert (await here.remove()).instance_guid == B0


async def test_an_identity_that_lives_longer_is_waited_for(tmp_path: Path) -> None:
    """It was issued by an earlier run, whose certificates lived longer."""
    async with plane(tmp_path, IDENTITY_RECORD) as here:
        assert (await here.remove()).ends_at == NOON + 5 * HOUR


async def test_an_identity_that_is_nearly_over_says_nothing_of_the_newest(tmp_path: Path) -> None:
    """The instance may have renewed it since."""
    old = replace(IDENTITY_RECORD, not_after=NOON + HOUR / 2)
    async with plane(tmp_path, old) as here:
        assert (await here.remove()).ends_at == NOON + HOUR


async def test_a_removal_is_forgotten_once_nobody_can_come_back(tmp_path: Path) -> None:
    """While the control plane runs, and on the disk too."""
    async with plane(tmp_path) as here:
        left = await here.remove()
        await here.clock.advance(HOUR.total_seconds() - PERIOD_SECONDS)
        await here.caught_up()
        assert here.registry.state.tombstone(B0) == left

        await here.clock.advance(PERIOD_SECONDS)
        assert await here.forgotten() == left
        assert left not in await here.store.load()


async def test_a_removal_outlives_the_process(tmp_path: Path) -> None:
    """After a start it is known as before, and forgotten as before."""
    async with plane(tmp_path) as before:
        left = await before.remove()
    async with plane(tmp_path) as here:
        assert here.registry.state.instance(B0) is None
        assert here.registry.state.tombstone(B0) == left

        await here.clock.advance(HOUR.total_seconds())
        assert await here.forgotten() == left


async def test_a_clock_that_is_ahead_for_a_while_forgets_no_removal(tmp_path: Path) -> None:
    """Once it is right, an Envoy that was away may come back, and has to hear of it."""
    async with plane(tmp_path) as here:
        left = await here.remove()
        here.clock.set(timedelta(days=400))
        await here.clock.advance(HOUR.total_seconds() - 2 * PERIOD_SECONDS)
        await here.caught_up()
        here.clock.set(-timedelta(days=400))
        await here.clock.advance(PERIOD_SECONDS)
        await here.caught_up()
        assert here.registry.state.tombstone(B0) == left

        await here.clock.advance(PERIOD_SECONDS)
        assert await here.forgotten() == left


async def test_a_start_while_the_clock_is_ahead_forgets_no_removal(tmp_path: Path) -> None:
    """Since when it is known is not on the disk, so that it is kept for longer then."""
    async with plane(tmp_path) as before:
        left = await before.remove()
    async with plane(tmp_path) as here:
        here.clock.set(timedelta(days=400))
        await here.clock.advance(2 * PERIOD_SECONDS)
        await here.caught_up()
        assert here.registry.state.tombstone(B0) == left


async def test_who_is_registered_again_is_not_forgotten(tmp_path: Path) -> None:
    """Nothing is left of the removal that could be over."""
    async with plane(tmp_path) as here:
        left = await here.remove()
        await here.registry.execute(lambda s: register_instance(s, B0, B, "10.0.1.1"))
        assert (await here.changes.get()).drops == (left,)
        await here.clock.advance(2 * HOUR.total_seconds())
        await here.caught_up()

        assert here.registry.state.instance(B0) is not None
        assert here.changes.empty()


async def test_a_full_disk_has_it_forgotten_later(tmp_path: Path) -> None:
    """It is tried again, and nothing else suffers."""
    async with plane(tmp_path) as here:
        left = await here.remove()
        here.store.failures = 1
        with capture_logs() as lines:
            await here.clock.advance(HOUR.total_seconds())
            await here.clock.advance(PERIOD_SECONDS)

        assert await here.forgotten() == left
        reasons = [each["reason"] for each in lines if each["event"] == log_events.STORE_FAILED]
        assert reasons == ["the disk is full"] * 2  # the registry, and who asked


async def test_what_has_drained_is_forgotten_too(tmp_path: Path) -> None:
    """On the disk, with nobody to ask for it."""
    async with plane(tmp_path) as here:
        left = DrainingCaller(A, B, NOON + HOUR)
        await here.registry.execute(lambda state: decide(state, None, puts=[left]))
        await here.changes.get()
        assert left in await here.store.load()

        await here.clock.advance(HOUR.total_seconds() + PERIOD_SECONDS)
        async with asyncio.timeout(5):
            assert (await here.changes.get()).drops == (left,)
        assert left not in await here.store.load()
