"""How long a change takes: from its commit to the last ACK, and to the handshake that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from structlog.testing import capture_logs

from control_plane.model.change import Decision
from control_plane.model.entities import InstanceStatus, Tombstone
from control_plane.model.instances import move_instance, remove_instance, set_status
from control_plane.model.state import State
from control_plane.model.tombstones import drop_ended_tombstones
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.changes import ChangeTrace
from control_plane.reconciler.progress import Behind, Stage
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock, settled

B0, B1 = InstanceGuid("b0"), InstanceGuid("b1")
LATE = Behind(B0, B, 0, Stage.COMMITTED, "it does not answer")


class Fleet:
    """Instances that are as far as the test says."""

    def __init__(self) -> None:
        """Start with nobody who has anything."""
        self.acked: asyncio.Future[tuple[Behind, ...]] = asyncio.Future()
        self.shown: asyncio.Future[frozenset[InstanceGuid]] = asyncio.Future()
        self.asked: list[object] = []

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Wait until the test says who ACKed."""
        self.asked.append((apps, stage, timeout))
        return await self.acked

    async def served(
        self, instances: Iterable[InstanceGuid], timeout: float
    ) -> frozenset[InstanceGuid]:
        """Wait until the test says who serves."""
        self.asked.append((frozenset(instances), timeout))
        return await self.shown


class Scene:
    """A trace, and what it told."""

    def __init__(self, state: State) -> None:
        """Start with nothing committed."""
        self.clock = ManualClock()
        self.fleet = Fleet()
        self.state = state
        self.told: list[tuple[Stage, int, float, int]] = []
        self.trace = ChangeTrace(state, lambda: 7, self.fleet, self.fleet, self.clock)
        self.trace.observe(lambda *told: self.told.append(told))

    async def commit(self, decision: Decision[Any]) -> None:
        """Tell the trace of a change."""
        self.state = decision.state
        self.trace.committed(decision.state, decision.change)
        await settled()


def scene() -> Scene:
    """Return one with an app and its instance."""
    return Scene(register(world("b"), B0, B, "10.0.1.1"))


async def test_a_change_is_followed_to_the_handshake() -> None:
    """First to the last ACK, then until every certificate is served, both from the commit."""
    here = scene()
    with capture_logs() as lines:
        await here.commit(mapping(here.state, B, "x"))
        await here.clock.advance(2)
        here.fleet.acked.set_result(())
        await settled()
        await here.clock.advance(3)
        here.fleet.shown.set_result(frozenset())
        await settled()

    assert here.told == [(Stage.ACKED, 7, 2.0, 0), (Stage.SERVED, 7, 5.0, 0)]
    assert here.fleet.asked == [(frozenset({B}), Stage.ACKED, 60.0), (frozenset({B0}), 60.0)]
    assert [(line["event"], line["revision"], line["behind"]) for line in lines] == [
        ("change.acked", 7, 0),
        ("change.served", 7, 0),
    ]


async def test_a_change_that_is_not_acked_is_not_asked_for_further() -> None:
    """When the time is up it is said how many are behind, and who, as a warning."""
    here = scene()
    with capture_logs() as lines:
        await here.commit(mapping(here.state, B, "x"))
        here.fleet.acked.set_result((LATE,))
        await settled()

    assert here.told == [(Stage.ACKED, 7, 0.0, 1)]
    assert lines[0]["log_level"] == "warning"
    assert lines[0]["instances"] == [B0]


async def test_who_does_not_serve_a_change_is_named() -> None:
    """Up to ten of them, so that a fleet that is away is one line of the log."""
    here = scene()
    with capture_logs() as lines:
        await here.commit(mapping(here.state, B, "x"))
        here.fleet.acked.set_result(())
        here.fleet.shown.set_result(frozenset(InstanceGuid(f"b{n:02}") for n in range(12)))
        await settled()

    assert "instances" not in lines[0]
    assert (lines[1]["event"], lines[1]["behind"]) == ("change.served", 12)
    assert lines[1]["instances"] == [f"b{n:02}" for n in range(10)]


async def test_coming_and_going_is_no_change() -> None:
    """An instance that is ready, or gone, was not changed by anybody; one that moved was."""
    here = scene()
    for status in (InstanceStatus.READY, InstanceStatus.GONE):
        await here.commit(set_status(here.state, B0, status))
    assert here.fleet.asked == []
    await here.commit(move_instance(here.state, B0, "10.0.1.9"))
    assert len(here.fleet.asked) == 1
    await here.commit(remove_instance(here.state, B0))
    assert len(here.fleet.asked) == 2
    await here.trace.close()


async def test_what_is_forgotten_of_the_removed_is_no_change() -> None:
    """Nobody asked for it, and nothing follows from it."""
    here = Scene(register(world("b"), B0, B, "10.0.1.1").put(Tombstone(B1, B, NOON)))
    await here.commit(drop_ended_tombstones(here.state, NOON))

    assert here.state.tombstone(B1) is None
    assert here.fleet.asked == []


async def test_what_is_committed_after_the_close_is_not_followed() -> None:
    """Streams end after the close, which says nothing of who has the change."""
    here = scene()
    await here.trace.close()
    await here.commit(mapping(here.state, B, "x"))

    assert here.fleet.asked == []
    assert here.told == []


async def test_closing_ends_every_wait() -> None:
    """At the end nobody follows anything any more."""
    here = scene()
    await here.commit(mapping(here.state, B, "x"))
    await here.trace.close()

    assert here.fleet.acked.cancelled()
    assert here.told == []
