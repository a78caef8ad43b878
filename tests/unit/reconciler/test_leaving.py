"""Presence of a fleet: who left, or was removed, is waited for by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.model.apps import delete_app
from control_plane.model.change import Change
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership import absences
from control_plane.reconciler.membership.presence import Presence
from control_plane.reconciler.membership.status import Word
from control_plane.registry import Registry
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.faulty import Faulty, working
from tests.unit.reconciler.worlds import Peer, World

B0, B1 = InstanceGuid("b0"), InstanceGuid("b1")
READY, GONE = InstanceStatus.READY, InstanceStatus.GONE
SOON = 0.03
"""A grace that a test can wait for, in seconds."""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait half a minute."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", SOON)


class Fleet:
    """Two instances of one app, each with an Envoy that has all that it needs."""

    def __init__(
        self, registry: Registry, presence: Presence, peers: dict[InstanceGuid, Peer]
    ) -> None:
        """Take what runs already."""
        self.registry = registry
        self.presence = presence
        self.peers = peers
        self._news = asyncio.Event()
        registry.subscribe(self._note)

    async def becomes(self, **statuses: InstanceStatus) -> None:
        """Wait until these are the statuses of all instances, by GUID."""
        async with asyncio.timeout(5):
            while {each.guid: each.status for each in self.registry.state.all_instances()} != (
                statuses
            ):
                self._news.clear()
                await self._news.wait()

    def leave(self, guid: InstanceGuid) -> None:
        """Have a sidecar say that its instance leaves."""
        self.presence.reported(guid, Word(listening=True, leaving=True))

    async def is_lost(self, *guids: InstanceGuid) -> None:
        """Break the streams of some, and let all time pass that they would have."""
        for each in guids:
            self.peers[each].close()
        await asyncio.sleep(5 * SOON)

    def _note(self, _state: State, _change: Change) -> None:
        self._news.set()


@asynccontextmanager
async def fleet(directory: Path) -> AsyncIterator[Fleet]:
    """Run registry and presence with two instances that are ready."""
    state = register(register(world("b"), B0, B, "10.0.1.1"), B1, B, "10.0.1.2")
    store = await Faulty.holding(state, directory)
    around = World(state)
    registry = Registry(state, store)
    registry.subscribe(around.reconciler.committed)
    presence = Presence(registry, around.nodes)
    around.nodes.observe(presence)
    async with working(store, registry.run(), presence.run()):
        peers = {guid: around.connect(guid).as_envoy() for guid in (B0, B1)}
        two = Fleet(registry, presence, peers)
        await two.becomes(b0=READY, b1=READY)
        yield two


async def test_those_that_left_are_waited_for_by_nobody(tmp_path: Path) -> None:
    """All of them are gone by their own word, so nobody is missed."""
    async with fleet(tmp_path) as two:
        two.leave(B0)
        two.leave(B1)
        await two.becomes(b0=GONE, b1=GONE)
        await two.is_lost(B0, B1)

        assert two.presence.alarm() == ""


async def test_those_that_were_removed_are_waited_for_by_nobody(tmp_path: Path) -> None:
    """Their streams end after they were removed, since they are told of that first."""
    async with fleet(tmp_path) as two:
        await two.registry.execute(lambda state: delete_app(state, B))
        await two.is_lost(B0, B1)

        assert two.presence.alarm() == ""


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "away"])
async def test_one_that_left_is_not_one_of_several(tmp_path: Path, *, is_connected: bool) -> None:
    """The other one was the only one, so it is gone when its time is up."""
    async with fleet(tmp_path) as two:
        if not is_connected:
            two.peers[B0].close()
        two.leave(B0)
        await two.becomes(b0=GONE, b1=READY)
        await two.is_lost(B0, B1)

        await two.becomes(b0=GONE, b1=GONE)
        assert two.presence.alarm() == ""


async def test_who_is_lost_while_it_is_written_to_be_there_is_waited_for(tmp_path: Path) -> None:
    """Its streams broke before the disk had that it is there, and it is gone in the end."""
    async with fleet(tmp_path) as two:
        await two.registry.execute(lambda state: set_status(state, B0, GONE))
        two.peers[B0].close()
        await two.registry.execute(lambda state: set_status(state, B0, READY))

        await two.becomes(b0=GONE, b1=READY)
