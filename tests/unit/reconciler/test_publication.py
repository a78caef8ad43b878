"""Names and certificates: no name leads to a certificate without it, and every wait has an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from cProfile import Profile
from typing import Any

import pytest

from control_plane.model.apps import delete_app
from control_plane.model.change import Change, Decision
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import remove_instance, set_status
from control_plane.model.routes import unmap_route
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.publication import names as module
from control_plane.reconciler.publication import returning
from control_plane.reconciler.publication.names import Neighbourhood, Publication
from control_plane.reconciler.publication.uncertified import TOGETHER_SECONDS
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import A, B, C, allow, mapping, register, world
from tests.unit.reconciler.clocks import ManualClock, settled
from tests.unit.reconciler.test_recovery import record

A0, B0, B1 = InstanceGuid("a0"), InstanceGuid("b0"), InstanceGuid("b1")
READY = InstanceStatus.READY
API, OLD = "api.apps.internal", "old.apps.internal"


def usual() -> State:
    """Return apps ``a`` and ``b`` with an instance each, and ``c``; ``a`` may reach ``b``."""
    state = register(register(world("a", "b", "c"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    return allow(state, A, B)


def used() -> State:
    """Return the same after a while: both are ready, ``a0`` has a resolver, ``b`` a route."""
    state = set_status(usual(), A0, InstanceStatus.READY, has_resolver=True).state
    state = set_status(state, B0, InstanceStatus.READY).state
    return mapping(state, B, "api").state


def many(number: int) -> State:
    """Return the same with so many instances of ``b``."""
    state = used()
    for each in range(1, number):
        guid = InstanceGuid(f"b{each}")
        state = set_status(register(state, guid, B, f"10.0.2.{each}"), guid, READY).state
    return state


class Town:
    """Apps ``a`` and ``b``; ``a`` may reach ``b``. Each has an instance, connected at first.

    Attributes:
        behind: instances that have not ACKed what they should have.
        marked: apps whose instances, or resolvers, were to be looked at again.
        resolvers: instances with a resolver.
    """

    def __init__(self, state: State | None = None, records: Iterable[IssuedRecord] = ()) -> None:
        """Start with everybody up to date.

        Args:
            state: what is on the disk, if it is not the usual; likewise the records.
        """
        self.state = state or usual()
        self.connected = {A0, B0}
        self.behind: set[InstanceGuid] = set()
        self.resolvers = {A0}
        self.marked: list[AppGuid] = []
        self.clock = ManualClock()
        around = Neighbourhood(
            self._connected_of,
            lambda instance: self.connected & {instance},
            lambda instance: instance in self.connected - self.behind,
            self.resolvers.__contains__,
            lambda instance: instance not in self.behind,
            self._mark,
            self._mark_resolvers,
        )
        self.publication = Publication(self.state, around, self.clock, records)

    def map(self, host: str = "api", app: AppGuid = B) -> None:
        """Map a route."""
        self.commit(mapping(self.state, app, host))

    def unmap(self, host: str = "api", app: AppGuid = B) -> None:
        """Unmap a route."""
        self.commit(unmap_route(self.state, app, host, "apps.internal"))

    def commit(self, decision: Decision[Any]) -> None:
        """Tell of a change."""
        assert decision.change
        self.state = decision.state
        self.publication.committed(decision.state, decision.change)

    async def catch_up(self, *instances: InstanceGuid) -> None:
        """Let instances ACK what they should have."""
        for instance in instances:
            self.behind.discard(instance)
            self.publication.told(instance)
        await settled()

    def resolved(self) -> tuple[str, ...]:
        """The names of ``b`` that may be resolved."""
        return self.publication.published(B)

    def certified(self) -> tuple[str, ...]:
        """The names that certificates of ``b`` must have."""
        lingering = self.publication.lingering(self.state.instances[B0])
        return tuple(sorted({*self.state.hostnames_of(B), *lingering}))

    def _connected_of(self, app: AppGuid) -> Iterable[InstanceGuid]:
        instances = (each.guid for each in self.state.instances_of(app))
        return [each for each in instances if each in self.connected]

    def _mark(self, apps: Iterable[AppGuid]) -> None:
        self.marked += apps

    def _mark_resolvers(self, apps: Iterable[AppGuid]) -> None:
        self.marked += apps


@asynccontextmanager
async def a_town(*records: IssuedRecord, state: State | None = None) -> AsyncIterator[Town]:
    """Run a town, and stop what is under way there in the end."""
    town = Town(state, records)
    town.publication.resume()
    try:
        yield town
    finally:
        await town.publication.close()
        assert town.publication.under_way([A, B, C]) == ()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_after_a_restart_what_was_certified_is_published() -> None:
    """It is resolved as before, and nothing waits for anybody."""
    async with a_town(record(API), state=used()) as town:
        assert town.resolved() == town.certified() == (API,)
        assert not town.publication.uncertified(B)
        assert town.publication.under_way([A, B]) == ()
        assert town.marked == []


async def test_after_a_restart_no_name_leads_where_no_certificate_has_it() -> None:
    """It was mapped just before; the instance may be what keeps it from being certified."""
    async with a_town(record(API, unacked=[API]), state=used()) as town:
        assert dict(town.publication.uncertified(B)) == {B0: {API}}

        town.publication.certified(B, B0)

        assert town.resolved() == (API,)
        assert not town.publication.uncertified(B)


async def test_what_a_return_costs_does_not_follow_how_much_is_uncertified() -> None:
    """All of a big app are away after a restart, and each that comes back has a turn of its own."""
    calls = []
    for routes in (1, 20):
        state = many(50)
        for number in range(1, routes):
            state = mapping(state, B, f"host-{number}").state
        async with a_town(state=state) as town:
            assert len(town.publication.uncertified(B)) == 50
            with Profile() as profile:
                for each in state.instances_of(B):
                    town.publication.certified(B, each.guid)
                await town.clock.advance(TOGETHER_SECONDS)
            # The steps of generators are calls, too.
            calls.append(sum(each.callcount for each in profile.getstats()))
            assert not town.publication.uncertified(B)

    assert calls[1] < 1.1 * calls[0]


async def test_those_that_come_back_soon_after_one_are_let_in_together() -> None:
    """Each time resolvers get another table; the first waits for nobody, nor does a late one."""
    b2, b3 = InstanceGuid("b2"), InstanceGuid("b3")
    async with a_town(state=many(4)) as town:
        for each in (B0, B1, b2):
            town.publication.certified(B, each)
        assert set(town.publication.uncertified(B)) == {B1, b2, b3}
        assert sorted(town.marked) == [A, B]

        await town.clock.advance(TOGETHER_SECONDS)
        assert set(town.publication.uncertified(B)) == {b3}
        assert sorted(town.marked) == [A, A, B, B]

        await town.clock.advance(TOGETHER_SECONDS)
        town.publication.certified(B, b3)
        assert not town.publication.uncertified(B)


async def test_who_left_again_before_a_route_was_mapped_is_not_let_in() -> None:
    """It has a certificate with all routes but this one, and the others wait with it."""
    async with a_town(state=many(2)) as town:
        for each in (B0, B1):
            town.publication.certified(B, each)
        assert B1 not in town.connected
        town.map("new")
        await town.clock.advance(TOGETHER_SECONDS)

        assert dict(town.publication.uncertified(B)) == {B1: {API, "new.apps.internal"}}


async def test_after_a_restart_an_unmapped_name_waits_for_resolvers_to_come_back() -> None:
    """It stays in the certificates that have it until they have ACKed that it is gone."""
    async with a_town(record(API, OLD), state=used()) as town:
        assert (town.resolved(), town.certified()) == ((API,), (API, OLD))
        town.behind = {A0}
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert [each.guid for each in town.publication.awaited([B])] == [A0]

        town.publication.returned(A0)
        await settled()
        assert town.publication.awaited([B]) == ()
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert town.certified() == (API, OLD)

        await town.catch_up(A0)
        await town.clock.advance(0.9 * module.LINGER_SECONDS)
        assert (town.certified(), town.marked) == ((API, OLD), [])
        await town.clock.advance(0.1 * module.LINGER_SECONDS)
        assert (town.certified(), town.marked) == ((API,), [B])


async def test_soon_after_a_restart_a_name_that_is_unmapped_waits_likewise() -> None:
    """Who is away still answers by it; and who is waited for is told with the name's app only."""
    async with a_town(record(API), state=used()) as town:
        town.unmap()
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert (town.resolved(), town.certified()) == ((), (API,))
        assert [each.guid for each in town.publication.awaited([B])] == [A0]
        assert town.publication.awaited([A]) == ()

        town.publication.returned(A0)
        await settled()
        await town.clock.advance(module.LINGER_SECONDS)

        assert town.certified() == ()


@pytest.mark.parametrize("end", ["never", "removed"])
async def test_a_resolver_that_does_not_come_back_is_waited_for_in_vain(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """For as long as instances are given after a start, or until it is removed."""
    if end == "never":
        monkeypatch.setattr(returning, "GRACE_AFTER_START_SECONDS", 0.01)
    async with a_town(record(API, OLD), state=used()) as town:
        town.resolvers.clear()
        (task,) = town.publication.under_way([B])
        if end == "removed":
            await settled()
            assert town.certified() == (API, OLD)
            town.commit(remove_instance(town.state, A0))

        await asyncio.wait_for(task, 5)

        assert town.certified() == (API,)


async def test_an_unmapped_name_waits_for_a_resolver_that_lost_its_stream() -> None:
    """It goes on answering by the name until it is back and told otherwise."""
    async with a_town() as town:
        town.map()
        await settled()
        town.resolvers.discard(A0)
        town.publication.left(A0)
        town.unmap()
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert (town.resolved(), town.certified()) == ((), (API,))
        assert [each.guid for each in town.publication.awaited([B])] == [A0]

        town.resolvers.add(A0)
        town.publication.returned(A0)
        await settled()
        await town.clock.advance(module.LINGER_SECONDS)

        assert town.certified() == ()


async def test_an_unmapped_name_waits_for_a_resolver_that_leaves_without_an_answer() -> None:
    """Who is not connected has nothing to ACK, and has let go of nothing."""
    async with a_town() as town:
        town.map()
        await settled()
        town.behind.add(A0)
        town.unmap()
        await settled()
        town.publication.left(A0)
        await town.catch_up(A0)
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert town.certified() == (API,)

        town.behind.add(A0)
        town.publication.returned(A0)
        await settled()
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert town.certified() == (API,)

        await town.catch_up(A0)
        await town.clock.advance(module.LINGER_SECONDS)
        assert town.certified() == ()


@pytest.mark.parametrize("end", ["never", "gone before", "gone"])
async def test_a_resolver_that_left_for_good_is_waited_for_in_vain(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """For as long as instances are given to come back, or until it counts as gone."""
    if end == "never":
        monkeypatch.setattr(returning, "GRACE_SECONDS", 0.01)
    async with a_town() as town:
        town.map()
        await settled()
        if end == "gone before":
            town.commit(set_status(town.state, A0, InstanceStatus.GONE))
        town.resolvers.discard(A0)
        town.publication.left(A0)
        town.unmap()
        (task,) = town.publication.under_way([B])
        if end == "gone":
            await settled()
            assert town.certified() == (API,)
            town.commit(set_status(town.state, A0, InstanceStatus.GONE))

        await asyncio.wait_for(task, 5)

        assert town.certified() == ()


async def test_nobody_waits_for_resolvers_that_never_were() -> None:
    """Where no instance has one, a name leaves the certificates at once after a restart too."""
    state = mapping(set_status(usual(), B0, InstanceStatus.READY).state, B, "api").state
    async with a_town(record(API, OLD), state=state) as town:
        town.resolvers.clear()
        await settled()

        assert town.certified() == (API,)
        assert town.marked == [B]


async def test_after_a_restart_only_certificates_with_a_name_keep_it() -> None:
    """Another instance has lost it already, and is sent nothing for it."""
    state = set_status(register(used(), "b1", B, "10.0.1.2"), B1, InstanceStatus.READY).state
    async with a_town(record(API, OLD), record(API, guid="b1", index=1), state=state) as town:
        assert town.certified() == (API, OLD)
        assert town.publication.lingering(state.instances[B1]) == ()


async def test_a_name_of_before_a_restart_may_be_mapped_again() -> None:
    """Or its app deleted; what was to be done with it is not done any more."""
    async with a_town(record(API, OLD), state=used()) as town:
        town.map("old")
        await settled()
        assert town.resolved() == town.certified() == (API, OLD)
        assert town.publication.awaited([B]) == ()

        town.commit(delete_app(town.state, B))
        town.publication.returned(A0)
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert town.publication.under_way([B]) == ()
        assert town.publication._kept == {}


async def test_a_name_is_published_once_every_instance_has_the_certificate() -> None:
    """Until then the certificate has it and no resolver does; then all whom it concerns hear."""
    async with a_town() as town:
        town.behind = {A0, B0}
        town.map()
        await settled()

        assert town.certified() == (API,)
        assert town.resolved() == ()
        assert len(town.publication.under_way([B])) == 1
        assert town.publication.under_way([A]) == ()
        assert town.marked == []

        await town.catch_up(B0)

        assert town.resolved() == (API,)
        assert set(town.marked) == {A, B}
        assert town.publication.under_way([B]) == ()


async def test_what_is_under_way_for_a_name_is_what_began_last() -> None:
    """The end of what it came in place of does not hide it from those who wait for it."""
    async with a_town() as town:
        town.behind = {A0, B0}
        town.map()
        await settled()
        town.unmap()
        await settled()

        assert len(town.publication.under_way([B])) == 1


async def test_nobody_waits_for_instances_that_are_away() -> None:
    """The first certificate that they are given when they come has the name."""
    async with a_town() as town:
        town.behind, town.connected = {B0}, {A0}
        town.map()
        await settled()

        assert town.resolved() == (API,)


async def test_an_instance_that_never_acks_delays_a_name_by_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then the name is published anyway, and does not lead there."""
    monkeypatch.setattr(module, "PUBLISH_BOUND", 0.01)
    async with a_town() as town:
        town.behind = {B0}
        town.map()
        (task,) = town.publication.under_way([B])

        await asyncio.wait_for(task, 5)

        assert town.resolved() == (API,)
        assert dict(town.publication.uncertified(B)) == {B0: {API}}


@pytest.mark.parametrize("end", ["certified", "unmapped", "removed"])
async def test_a_name_waits_for_who_is_away_and_ready(end: str) -> None:
    """Until it has the certificate; nothing is remembered of a name or an instance that is gone."""
    async with a_town() as town:
        town.connected = {A0}
        town.commit(set_status(town.state, B0, InstanceStatus.READY))
        town.map()
        await settled()
        assert town.resolved() == (API,)
        assert dict(town.publication.uncertified(B)) == {B0: {API}}
        town.marked = []

        match end:
            case "certified":
                town.publication.certified(B, A0)
                assert town.marked == []
                town.publication.certified(B, B0)
                assert set(town.marked) == {A, B}
            case "unmapped":
                town.unmap()
            case _:
                town.commit(remove_instance(town.state, B0))

        assert not town.publication.uncertified(B)


async def test_of_the_names_that_wait_only_the_unmapped_one_is_forgotten() -> None:
    """The others lead to nobody who lacks them, as before."""
    state = mapping(used(), B, "old").state
    async with a_town(record(API), state=state) as town:
        town.connected = {A0}
        town.map("new")
        await settled()
        assert dict(town.publication.uncertified(B)) == {B0: {OLD, "new.apps.internal"}}

        town.unmap("api")
        assert dict(town.publication.uncertified(B)) == {B0: {OLD, "new.apps.internal"}}
        town.unmap("new")

        assert dict(town.publication.uncertified(B)) == {B0: {OLD}}


async def test_an_unmapped_name_stays_in_certificates_until_nobody_resolves_it() -> None:
    """First the resolvers ACK that it is gone, then those who asked just before have connected."""
    async with a_town() as town:
        town.map()
        await settled()
        town.behind, town.marked = {A0}, []
        town.unmap()
        await settled()

        assert town.resolved() == ()
        assert town.certified() == (API,)

        await town.catch_up(A0)
        assert town.certified() == (API,)

        await town.clock.advance(module.LINGER_SECONDS)

        assert town.certified() == ()
        assert town.marked == [B]


async def test_a_resolver_that_never_acks_keeps_a_name_for_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certificate lets go of it in the end."""
    monkeypatch.setattr(module, "WITHDRAW_BOUND", 0.01)
    async with a_town() as town:
        town.map()
        await settled()
        town.behind = {A0}
        town.unmap()
        (task,) = town.publication.under_way([B])
        await asyncio.wait({task}, timeout=0.1)

        await town.clock.advance(module.LINGER_SECONDS)

        assert task.done()
        assert town.certified() == ()


async def test_without_resolvers_an_unmapped_name_leaves_the_certificate_at_once() -> None:
    """Nobody whom the control plane knows was led there."""
    async with a_town() as town:
        town.resolvers.clear()
        town.map()
        await settled()
        town.unmap()
        await settled()

        assert town.certified() == ()


async def test_a_name_that_is_mapped_again_stays_in_the_certificate() -> None:
    """What was to be done because it was unmapped is no longer done."""
    async with a_town() as town:
        town.map()
        await settled()
        town.unmap()
        await settled()

        town.map()
        await settled()

        assert town.resolved() == town.certified() == (API,)
        await town.clock.advance(10 * module.LINGER_SECONDS)
        assert town.resolved() == town.certified() == (API,)
        assert town.publication.lingering(town.state.instances[B0]) == ()


async def test_a_name_that_is_unmapped_twice_lingers_after_the_second_time() -> None:
    """The first time's clock does not take it from those who resolved it since."""
    async with a_town() as town:
        town.map()
        await settled()
        town.unmap()
        await town.clock.advance(0.9 * module.LINGER_SECONDS)
        town.map()
        await settled()
        town.unmap()
        await settled()

        await town.clock.advance(0.9 * module.LINGER_SECONDS)
        assert town.certified() == (API,)

        await town.clock.advance(0.1 * module.LINGER_SECONDS)
        assert town.certified() == ()


async def test_a_name_that_is_mapped_twice_waits_for_the_second_certificate() -> None:
    """The ACK of the first certificate says nothing of the second."""
    async with a_town() as town:
        town.behind = {B0}
        town.map()
        await settled()
        (first,) = town.publication.under_way([B])
        town.unmap()
        town.map()
        await settled()
        (second,) = town.publication.under_way([B])

        assert first.cancelled()
        assert town.resolved() == ()

        await town.catch_up(B0)

        assert second.done()
        assert town.resolved() == (API,)


async def test_names_of_one_app_do_not_wait_for_each_other() -> None:
    """Each mapping goes its own way."""
    async with a_town() as town:
        town.map("old")
        await settled()
        town.unmap("old")
        town.map("new")
        await settled()

        assert town.resolved() == ("new.apps.internal",)
        assert town.certified() == ("new.apps.internal", "old.apps.internal")


async def test_an_app_that_shares_a_name_keeps_it() -> None:
    """Unmapping a route from one app leaves it with the other."""
    async with a_town() as town:
        town.map()
        town.map(app=C)
        await settled()
        town.unmap(app=C)
        await settled()

        assert town.resolved() == town.certified() == (API,)
        assert town.publication.published(C) == ()


async def test_a_deleted_app_leaves_nothing() -> None:
    """Nothing is done any more with the names that it had, and no name of it lingers."""
    async with a_town() as town:
        town.behind = {B0}
        town.map()
        town.map("old")
        await settled()
        town.unmap("old")
        gone = town.state.instances[B0]
        town.commit(delete_app(town.state, B))
        await town.clock.advance(module.LINGER_SECONDS)

        assert town.publication.under_way([B]) == ()
        assert town.publication.lingering(gone) == ()
        assert town.publication._held_back == {}


async def test_other_changes_start_nothing() -> None:
    """Policies and instances are none of its business."""
    async with a_town() as town:
        town.publication.committed(town.state, Change(puts=town.state.all_policies()))
        town.publication.committed(town.state, Change(drops=town.state.all_instances()))

        assert town.publication.under_way([A, B]) == ()
