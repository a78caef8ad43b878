"""Lists: what is asked of a whole fleet is nobody else's trouble."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sized
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from control_plane.api.v1 import (
    app_pb2,
    instance_pb2,
    join_token_pb2,
    network_policy_pb2,
    route_pb2,
)
from control_plane.model.apps import create_app
from control_plane.model.entities import JoinToken
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tokens import add_token
from control_plane.server.api.apps import AppService
from control_plane.server.api.instances import InstanceService
from control_plane.server.api.join_tokens import JoinTokenService
from control_plane.server.api.messages import AT_ONCE
from control_plane.server.api.network_policies import NetworkPolicyService
from control_plane.server.api.routes import RouteService
from tests.unit.model.world import A, B, mapping, policy, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.server.turns import counting

SLICES = 3
MANY = range(SLICES * AT_ONCE)
UNUSED: Any = None


def _of(state: State) -> Any:  # noqa: ANN401 - a registry, as far as a list needs it
    return SimpleNamespace(state=state)


async def apps() -> Sized:
    """List many apps."""
    state = State()
    for each in MANY:
        state = create_app(state, f"guid-{each}", AppSpec(f"app-{each}")).state
    service = AppService(_of(state), UNUSED)
    return (await service.ListApps(app_pb2.ListAppsRequest(), UNUSED)).apps


async def instances() -> Sized:
    """List many instances."""
    state = world("b")
    for each in MANY:
        state = register(state, f"b{each}", B, f"10.0.{each // 200}.{each % 200 + 1}")
    service = InstanceService(_of(state), lambda _: False, UNUSED, UNUSED)
    return (await service.ListInstances(instance_pb2.ListInstancesRequest(), UNUSED)).instances


async def routes() -> Sized:
    """List many routes."""
    state = world("b")
    for each in MANY:
        state = mapping(state, B, f"host-{each}").state
    service = RouteService(_of(state), UNUSED, UNUSED, ())
    return (await service.ListRoutes(route_pb2.ListRoutesRequest(), UNUSED)).routes


async def policies() -> Sized:
    """List many policies."""
    state = world("a", "b")
    for each in MANY:
        state = state.put(policy(A, B, 1024 + each))
    service = NetworkPolicyService(_of(state), UNUSED, opening=UNUSED)
    request = network_policy_pb2.ListNetworkPoliciesRequest()
    return (await service.ListNetworkPolicies(request, UNUSED)).policies


async def tokens() -> Sized:
    """List many join tokens."""
    state = world("b")
    for each in MANY:
        token = JoinToken(f"{each:x}", B, NOON + timedelta(hours=1), 1)
        state = add_token(state, token, NOON).state
    service = JoinTokenService(_of(state), ManualClock(), UNUSED, UNUSED, UNUSED)
    return (await service.ListJoinTokens(join_token_pb2.ListJoinTokensRequest(), UNUSED)).tokens


@pytest.mark.parametrize("listed", [apps, instances, routes, policies, tokens])
async def test_a_long_list_gives_way_to_others(
    listed: Callable[[], Coroutine[Any, Any, Sized]],
) -> None:
    """Between two slices everybody else has a turn."""
    found, turns = await counting(listed())

    assert len(found) == len(MANY)
    assert turns >= SLICES
