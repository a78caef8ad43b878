"""Who left for good is forgotten: not while it could come back, and not because a clock was set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.model.change import Decision
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.certificates.ledger import Ledger
from control_plane.reconciler.membership.departures import PERIOD_SECONDS, Departures
from control_plane.registry import Registry
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.faulty import Faulty, working

B0, B1 = InstanceGuid("b0"), InstanceGuid("b1")
HOUR = timedelta(hours=1)
LIFE = HOUR.total_seconds()


class Plane:
    """A registry over a real store, with an instance that is there and one that has no identity."""

    def __init__(self, store: Faulty, state: State, ends: timedelta) -> None:
        """Take what was read from disk: b0 has an identity that ends so long after noon."""
        self.store = store
        self.clock = ManualClock()
        record = IssuedRecord(B0, IDENTITY, "", 1, ("b0",), NOON - HOUR, NOON + ends, "ca")
        holdings = Holdings(Ledger(self.clock), [record])
        self.departures = Departures(holdings, HOUR, self.clock)
        self.registry = Registry(state, store)
        self._news = asyncio.Event()
        self.registry.subscribe(lambda _, __: self._news.set())

    async def known(self) -> set[InstanceGuid]:
        """Return the instances that there are, once all is done that was asked for until now."""
        await self.registry.execute(lambda state: Decision(state, None))
        return set(self.registry.state.instances)

    async def say(self, status: InstanceStatus, *instances: InstanceGuid) -> None:
        """Say where instances are in their lives, and let everybody hear of it."""
        for each in instances or (B0,):
            await self.registry.execute(partial(set_status, guid=each, status=status))
        await self.clock.advance(PERIOD_SECONDS)

    async def forgot(self, instance: InstanceGuid) -> None:
        """Wait until an instance is forgotten."""
        async with asyncio.timeout(5):
            while instance in self.registry.state.instances:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def plane(directory: Path, ends: timedelta = HOUR) -> AsyncIterator[Plane]:
    """Run one until the block ends."""
    state = register(register(world("b"), B0, B, "10.0.1.1"), B1, B, "10.0.1.2")
    store = await Faulty.holding(state, directory)
    made = Plane(store, state, ends)
    async with working(store, made.registry.run(), made.departures.run(made.registry)):
        yield made


async def test_who_left_for_good_is_forgotten(tmp_path: Path) -> None:
    """Once it has been gone for the life of an identity; its index is free from then on."""
    async with plane(tmp_path) as here:
        await here.say(InstanceStatus.READY, B0, B1)
        await here.say(InstanceStatus.GONE)
        await here.clock.advance(LIFE - PERIOD_SECONDS)
        assert await here.known() == {B0, B1}

        await here.clock.advance(PERIOD_SECONDS)
        await here.forgot(B0)

        assert await here.known() == {B1}
        state = State.of(await here.store.load())
        assert register(state, "b2", B, "10.0.1.3").instances[InstanceGuid("b2")].index == 0


async def test_who_enrolled_and_never_connected_is_forgotten(tmp_path: Path) -> None:
    """Once its identity has ended: it cannot come any more, and others would admit its address."""
    async with plane(tmp_path, ends=2 * HOUR) as here:
        await here.clock.advance(2 * LIFE - PERIOD_SECONDS)
        assert await here.known() == {B0, B1}

        await here.clock.advance(PERIOD_SECONDS)
        await here.forgot(B0)

        assert await here.known() == {B1}


async def test_whose_identity_lives_on_may_come_back(tmp_path: Path) -> None:
    """However long it is gone, until that has ended."""
    async with plane(tmp_path, ends=5 * HOUR) as here:
        await here.say(InstanceStatus.GONE)
        await here.clock.advance(5 * LIFE - 2 * PERIOD_SECONDS)
        assert B0 in await here.known()

        await here.clock.advance(2 * PERIOD_SECONDS)
        await here.forgot(B0)


async def test_who_has_no_identity_of_ours_is_never_forgotten(tmp_path: Path) -> None:
    """It was registered by hand, and is removed by hand."""
    async with plane(tmp_path) as here:
        await here.say(InstanceStatus.GONE, B0, B1)
        await here.clock.advance(2 * LIFE)
        await here.forgot(B0)

        await here.clock.advance(10 * LIFE)
        assert await here.known() == {B1}


async def test_a_clock_that_is_ahead_for_a_while_costs_nobody_its_place(tmp_path: Path) -> None:
    """Everybody is gone then, since all identities seem to have ended."""
    async with plane(tmp_path) as here:
        await here.say(InstanceStatus.GONE)
        here.clock.set(timedelta(days=400))
        await here.clock.advance(LIFE - 2 * PERIOD_SECONDS)
        assert B0 in await here.known()

        here.clock.set(-timedelta(days=400))
        await here.say(InstanceStatus.READY)
        await here.clock.advance(2 * LIFE)
        assert B0 in await here.known()


async def test_who_came_back_meanwhile_is_gone_anew(tmp_path: Path) -> None:
    """Only the last time that it left counts."""
    async with plane(tmp_path) as here:
        await here.say(InstanceStatus.GONE)
        await here.clock.advance(LIFE - 2 * PERIOD_SECONDS)
        await here.say(InstanceStatus.READY)
        await here.say(InstanceStatus.GONE)
        await here.clock.advance(LIFE - 2 * PERIOD_SECONDS)
        assert B0 in await here.known()

        await here.clock.advance(2 * PERIOD_SECONDS)
        await here.forgot(B0)


async def test_a_full_disk_has_who_left_forgotten_later(tmp_path: Path) -> None:
    """It is tried again, and nothing else suffers."""
    async with plane(tmp_path) as here:
        await here.say(InstanceStatus.GONE)
        here.store.failures = 1
        with capture_logs() as lines:
            await here.clock.advance(LIFE)
            await here.clock.advance(PERIOD_SECONDS)
            await here.forgot(B0)

        reasons = [each["reason"] for each in lines if each["event"] == log_events.STORE_FAILED]
        assert reasons == ["the disk is full"] * 2  # the registry, and who asked
