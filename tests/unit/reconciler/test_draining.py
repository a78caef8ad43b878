"""What connections need that were opened before an app's ports changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control_plane.model.apps import delete_app, update_app
from control_plane.model.entities import AppProtocol, DrainingPort
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.policies import PolicySpec, add_policies, remove_policies
from control_plane.model.spec import AppSpec
from control_plane.names import InstanceGuid, Port
from control_plane.reconciler.draining import DRAIN_SECONDS
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER
from tests.unit.model.world import A, B, register, world
from tests.unit.planner import worlds
from tests.unit.reconciler.clocks import NOON
from tests.unit.reconciler.worlds import World

B0 = InstanceGuid("b0")
CALLS = PolicySpec(A, B, "tcp", 61001, 61443)


@pytest.fixture
def around() -> World:
    """Return a world with an app ``b`` with two ports, and an app ``a`` that may call them all."""
    state = register(register(world("a", "b"), "a0", A, "10.0.0.1"), "b0", B, "10.0.1.1")
    around = World(add_policies(state, [CALLS]).state)
    change(around, ports=(8080, 9090))
    return around


def change(around: World, **fields: Any) -> None:  # noqa: ANN401 - of the spec
    """Update app ``b``."""
    spec = AppSpec.of(around.state.apps[B])
    around.commit(update_app(around.state, B, replace(spec, **fields)))


def names(around: World, kind: TypeUrl) -> set[str]:
    """Return the names of what ``b0`` should have of a type."""
    snapshot = around.nodes.snapshot(B0)
    assert snapshot is not None
    return set(snapshot.of_type(kind).resources)


async def test_what_drains_keeps_its_cluster_and_its_filter(around: World) -> None:
    """Of a port that is given up the listener goes at once, what it leads to a minute later."""
    around.connect("b0").as_envoy()
    async with around.running():
        await around.clock.advance(DRAIN_SECONDS)
        before = names(around, CLUSTER), names(around, EXTENSION_CONFIG)
        change(around, ports=(8080,))
        await around.clock.advance(DRAIN_SECONDS - 1)

        assert (names(around, CLUSTER), names(around, EXTENSION_CONFIG)) == before
        assert names(around, LISTENER) == {"listener-8080-61001", "listener-8080-61443"}

        await around.clock.advance(2)
        assert names(around, CLUSTER) == {"service-cluster-8080"}
        assert len(names(around, EXTENSION_CONFIG)) == len(before[1]) - 1


async def test_an_instance_is_planned_for_again_once_its_port_has_drained(around: World) -> None:
    """And not before: nothing else of its plan changes meanwhile."""
    around.connect("b0").as_envoy()
    plans: list[InstanceGuid] = []
    async with around.running():
        await around.clock.advance(DRAIN_SECONDS)
        change(around, ports=(8080,))
        await around.clock.advance(1)
        around.reconciler.on_plan(plans.append)
        await around.clock.advance(DRAIN_SECONDS - 2)
        assert plans == []

        await around.clock.advance(2)
        assert plans == [B0]


async def test_a_port_that_comes_back_stays(around: World) -> None:
    """Nothing is withdrawn later of what an app has again."""
    around.connect("b0").as_envoy()
    async with around.running():
        change(around, ports=(8080,))
        change(around, ports=(8080, 9090))
        await around.clock.advance(2 * DRAIN_SECONDS)

        assert names(around, CLUSTER) == {"service-cluster-8080", "service-cluster-9090"}


async def test_another_name_of_an_app_keeps_nothing(around: World) -> None:
    """Only where ports lead elsewhere there is something that drains, and only for a while."""
    around.connect("b0").as_envoy()
    async with around.running():
        change(around, ports=(9090,))
        await around.clock.advance(DRAIN_SECONDS + 1)
        change(around, name="other")
        await around.clock.advance(1)

        assert names(around, CLUSTER) == {"service-cluster-9090"}


async def test_an_app_that_is_deleted_drains_by_its_farewell(around: World) -> None:
    """Nobody may connect to what is left of it."""
    around.connect("b0").as_envoy()
    async with around.running():
        change(around, ports=(8080,))
        around.commit(delete_app(around.state, B))

        assert names(around, CLUSTER) == set()


def requesters(around: World) -> dict[str, set[str]]:
    """Return who may send requests to ``b0``, by filter."""
    snapshot = around.nodes.snapshot(B0)
    assert snapshot is not None
    return worlds.requesters(snapshot)


async def test_who_may_call_no_more_is_denied_until_its_connections_are_drained(
    around: World,
) -> None:
    """A client of complete states is not told of a resource that is gone, so it is one that denies.

    After a minute nobody needs it.
    """
    around.connect("b0").as_envoy()
    async with around.running():
        ports = ("61001", "61002", "61443")
        assert requesters(around) == {f"allowed-sources-{p}-{A}": {"10.0.0.1"} for p in ports}

        around.commit(remove_policies(around.state, [CALLS]))
        await around.clock.advance(DRAIN_SECONDS - 1)
        assert requesters(around) == {f"allowed-sources-{p}-{A}": set() for p in ports}

        await around.clock.advance(2)
        assert requesters(around) == {}


@pytest.mark.parametrize("ports", [(8080,), (8080, 9090)], ids=["a port too", "callers alone"])
async def test_what_drains_does_so_whatever_changes_meanwhile(
    around: World, ports: tuple[int, ...]
) -> None:
    """Connections stay open as long, so their cluster does, and what denies them."""
    around.connect("b0").as_envoy()
    async with around.running():
        await around.clock.advance(DRAIN_SECONDS + 1)
        before = names(around, CLUSTER)
        change(around, ports=ports)
        around.commit(remove_policies(around.state, [CALLS]))
        await around.clock.advance(1)
        denying = requesters(around)
        assert set(map(len, denying.values())) == {0}

        change(around, name="other")
        await around.clock.advance(1)
        assert (names(around, CLUSTER), requesters(around)) == (before, denying)


async def test_who_may_call_again_is_allowed_at_once(around: World) -> None:
    """What it was a moment ago denies nothing that a policy allows now."""
    around.connect("b0").as_envoy()
    async with around.running():
        around.commit(remove_policies(around.state, [CALLS]))
        around.commit(add_policies(around.state, [PolicySpec(A, B, "tcp", 61443, 61443)]))
        await around.clock.advance(1)

        allowed = {name for name, sources in requesters(around).items() if sources}
        assert allowed == {f"allowed-sources-61443-{A}"}


async def test_an_app_that_had_no_ports_has_nothing_that_drains(around: World) -> None:
    """Nor does it keep the next change, of whomever, from being taken note of."""
    around.commit(remove_policies(around.state, [CALLS]))
    around.commit(remove_instance(around.state, B0))
    change(around, os="windows")
    await around.clock.advance(2 * DRAIN_SECONDS)

    change(around, os="linux")
    around.commit(register_instance(around.state, "b1", B, "10.0.1.2"))

    assert around.reconciler.state is around.state
    around.connect("b1").as_envoy()
    snapshot = around.nodes.snapshot(InstanceGuid("b1"))
    assert snapshot is not None
    assert set(snapshot.of_type(CLUSTER).resources) == {
        "service-cluster-8080",
        "service-cluster-9090",
    }


async def test_what_drains_outlives_a_restart(around: World) -> None:
    """For as long as it would have been, and no longer, also where the clock was set back."""
    around.commit(remove_policies(around.state, [CALLS]))
    change(around, ports=(8080,))
    await around.clock.advance(DRAIN_SECONDS / 2)
    again = World(around.state, after=around)
    again.connect("b0").as_envoy()
    async with again.running():
        assert names(again, CLUSTER) == {"service-cluster-8080", "service-cluster-9090"}
        assert len(requesters(again)) == 3

        await again.clock.advance(DRAIN_SECONDS / 2 + 1)
        assert names(again, CLUSTER) == {"service-cluster-8080"}
        assert requesters(again) == {}


async def test_a_clock_that_was_set_back_keeps_nothing_for_longer(around: World) -> None:
    """What an earlier run left by a clock that was ahead of this one drains for a minute."""
    left = DrainingPort(B, Port(7070), Port(61003), AppProtocol.HTTP1, NOON + timedelta(days=1))
    again = World(around.state.put(left))
    again.connect("b0").as_envoy()
    async with again.running():
        assert "service-cluster-7070" in names(again, CLUSTER)
        await again.clock.advance(DRAIN_SECONDS + 1)
        assert "service-cluster-7070" not in names(again, CLUSTER)
