"""Who refuses one thing has the others: names ask for certificates, and certificates for names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.model.apps import update_app
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.routes import unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.certificates.renewals import RETRY
from control_plane.reconciler.publication.names import LINGER_SECONDS
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.unit.model.world import A, B, allow, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, World

A0, B0 = InstanceGuid("a0"), InstanceGuid("b0")
API = "api.apps.internal"
TAKEN = "listener-9090-61002"
"""A listener that no Envoy of these tests accepts."""


@pytest.fixture
def state() -> State:
    """Return app ``a`` that may reach app ``b``, one instance each; both are ready."""
    state = register(register(world("a", "b"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    for guid in (A0, B0):
        state = set_status(state, guid, InstanceStatus.READY, has_resolver=guid == A0).state
    return allow(state, A, B)


def open_port(around: World, app: AppGuid) -> None:
    """Give an app the port whose listener is refused."""
    spec = replace(AppSpec.of(around.state.apps[app]), ports=(8080, 9090))
    around.commit(update_app(around.state, app, spec))


async def test_a_name_waits_for_the_certificate_alone(state: State) -> None:
    """A listener that an instance refuses neither holds a new name back nor keeps it away."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    async with around.running():
        open_port(around, B)
        await settled()
        peer.settle_without(TAKEN)
        assert not around.reconciler.standing.is_current(B0)

        around.commit(mapping(around.state, B, "api"))
        await settled()
        assert around.reconciler.publication.published(B) == ()
        peer.settle_without(TAKEN)
        await settled()

        assert around.reconciler.publication.published(B) == (API,)
        assert B0 not in around.reconciler.publication.uncertified(B)


async def test_who_comes_back_with_its_certificate_is_let_in(state: State) -> None:
    """It was away when the route was mapped, and refuses a listener when it is back."""
    around = World(state)
    async with around.running():
        open_port(around, B)
        around.commit(mapping(around.state, B, "api"))
        await settled()
        assert B0 in around.reconciler.publication.uncertified(B)

        peer = around.connect(B0)
        for kind, *names in ((CLUSTER,), (LISTENER,), (SECRET, C2C_SECRET, ID_SECRET)):
            peer.ask(kind, *names)
            peer.settle_without(TAKEN)
        await settled()

        assert B0 not in around.reconciler.publication.uncertified(B)


@pytest.mark.parametrize("lacks", ["another secret", "its certificate"])
async def test_only_its_own_certificate_keeps_names_away(state: State, lacks: str) -> None:
    """One that has to be issued still, or is on its way, does; the other secret does not."""
    around = World(state)
    peer = around.connect(B0).as_envoy()
    async with around.running():
        around.commit(mapping(around.state, B, "api"))
        await settled()
        if lacks == "another secret":
            peer.settle_without(ID_SECRET)
        assert around.reconciler.standing.is_certified(B0) is (lacks == "another secret")

        around.serials.are_bad = True
        around.commit(mapping(around.state, B, "other"))
        await around.clock.advance(RETRY.total_seconds())
        peer.settle()

        assert not around.reconciler.standing.is_certified(B0)


async def test_an_unmapped_name_waits_for_the_name_tables_alone(state: State) -> None:
    """A listener that the instance of a resolver refuses keeps it in no certificate."""
    around = World(mapping(state, B, "api").state)
    around.connect(B0).as_envoy()
    envoy, resolver = around.connect(A0).as_envoy(), around.connect(A0).as_resolver()
    async with around.running():
        open_port(around, A)
        await settled()
        envoy.settle_without(TAKEN)
        around.commit(unmap_route(around.state, B, "api", "apps.internal"))
        await settled()
        instance = around.state.instances[B0]
        assert not around.reconciler.standing.has_names(A0)

        resolver.settle()
        await settled()
        await around.clock.advance(LINGER_SECONDS)

        assert around.reconciler.standing.has_names(A0)
        assert around.reconciler.publication.lingering(instance) == ()


@pytest.mark.parametrize("why", ["not yet", "failed"])
async def test_what_is_accepted_of_an_outdated_plan_says_nothing(state: State, why: str) -> None:
    """Make before break: there may be names that it should have, or be certified for, by now."""
    around = World(state)
    around.connect(B0).as_envoy()
    around.connect(A0).as_resolver()
    async with around.running():
        await settled()
        standing = around.reconciler.standing
        assert (standing.is_certified(B0), standing.has_names(A0)) == (True, True)

        for guid in (A0, B0):
            if why == "failed":
                standing.plan_failed(guid, "no room")
            else:
                around.reconciler._backlog.add(guid)
        assert (standing.is_certified(B0), standing.has_names(A0)) == (False, False)
