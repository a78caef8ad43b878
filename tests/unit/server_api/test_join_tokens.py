"""Creating join tokens: what else happens on that occasion, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import cast

import pytest

from control_plane.api.v1 import join_token_pb2
from control_plane.model.apps import create_app
from control_plane.model.change import Decision
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tokens import drop_expired_tokens
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api import join_tokens
from control_plane.server.api.join_tokens import EnrollmentServer, JoinTokenService
from tests.unit.server_security.still_clock import StillClock
from tests.unit.test_registry import FakeStore

CONTEXT = cast("Context", None)
"""Nothing of a call is looked at but the request."""


@asynccontextmanager
async def serving(clock: StillClock) -> AsyncIterator[tuple[JoinTokenService, Registry]]:
    """Serve join tokens of one app."""
    registry = Registry(create_app(State(), "guid-b", AppSpec("app-b")).state, FakeStore())
    numbers = iter(range(100))
    service = JoinTokenService(
        registry,
        clock,
        new_token=lambda: f"token-{next(numbers)}",
        new_guid=lambda: f"guid-{next(numbers)}",
        server=lambda: EnrollmentServer("10.0.0.5:18001", "sha256:0"),
    )
    writer = asyncio.create_task(registry.run())
    yield service, registry
    writer.cancel()
    with suppress(asyncio.CancelledError):
        await writer


async def create(service: JoinTokenService, seconds: int) -> str:
    """Create a token that is good for so long, and return the GUID by which it is called."""
    request = join_token_pb2.CreateJoinTokenRequest(app="app-b")
    request.ttl.FromSeconds(seconds)
    return (await service.CreateJoinToken(request, CONTEXT)).guid


async def test_what_expired_is_dropped_within_about_a_minute() -> None:
    """Nobody else does it, and tokens would pile up."""
    clock = StillClock()
    async with serving(clock) as (service, registry):
        await create(service, 30)
        await clock.sleep(31)
        late = [await create(service, 3600)]
        assert len(registry.state.tokens) == 2
        await clock.sleep(31)
        late.append(await create(service, 3600))

        assert {each.guid for each in registry.state.all_tokens()} == set(late)


async def test_many_tokens_at_once_are_not_all_looked_at_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fleet that starts has a token for each instance, and the one writer makes them all."""
    looks: list[int] = []

    def counted(state: State, now: datetime) -> Decision[int]:
        looks.append(len(state.tokens))
        return drop_expired_tokens(state, now)

    monkeypatch.setattr(join_tokens, "drop_expired_tokens", counted)
    clock = StillClock()
    async with serving(clock) as (service, registry):
        for _ in range(20):
            await create(service, 600)
            await clock.sleep(1)

        assert len(registry.state.tokens) == 20
    assert looks == [0]
