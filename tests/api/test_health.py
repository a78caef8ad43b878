"""Health tells load balancers whether to send calls here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.server.health import Health
from tests.api.serving import channel_to, serving

SERVICE = "c2c.v1.AppService"
Status = health_pb2.HealthCheckResponse
Request = health_pb2.HealthCheckRequest
Statuses: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]  # its stubs are older


async def check(channel: grpc.aio.Channel, service: str) -> int:
    """Return what a service says of itself when it is asked."""
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=Request.SerializeToString,
        response_deserializer=Status.FromString,
    )
    return (await call(Request(service=service))).status


async def statuses(channel: grpc.aio.Channel) -> dict[str, int]:
    """Return what every service says of itself."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    call = channel.unary_unary("/grpc.health.v1.Health/List")
    answer = Statuses.FromString(await call(b""))
    return {name: each.status for name, each in answer.statuses.items()}


async def watch(channel: grpc.aio.Channel, service: str) -> AsyncIterator[int]:
    """Yield what a watcher of a service is told."""
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=Request.SerializeToString,
        response_deserializer=Status.FromString,
    )
    async for each in call(Request(service=service)):
        yield each.status


def add(health: Health, server: grpc.aio.Server) -> None:
    """Serve health checks."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


async def test_every_service_is_serving_until_the_server_drains(tmp_path: Path) -> None:
    """A service of the server, and the server as a whole, are SERVING, then NOT_SERVING."""
    health = Health([SERVICE])
    async with (
        serving(tmp_path, lambda server: add(health, server)) as socket,
        channel_to(socket) as channel,
    ):
        before = [await check(channel, each) for each in ("", SERVICE)]
        health.drain()
        after = [await check(channel, each) for each in ("", SERVICE)]

    assert before == [Status.SERVING, Status.SERVING]
    assert after == [Status.NOT_SERVING, Status.NOT_SERVING]


async def test_all_services_can_be_asked_for_at_once(tmp_path: Path) -> None:
    """List names each service that Check knows, with the same status."""
    health = Health([SERVICE])
    async with (
        serving(tmp_path, lambda server: add(health, server)) as socket,
        channel_to(socket) as channel,
    ):
        before = await statuses(channel)
        health.drain()
        after = await statuses(channel)

    assert before == {"": Status.SERVING, SERVICE: Status.SERVING}
    assert after == {"": Status.NOT_SERVING, SERVICE: Status.NOT_SERVING}


async def test_an_unknown_service_is_not_found(tmp_path: Path) -> None:
    """The protocol wants NOT_FOUND for a service that the server does not have."""
    async with (
        serving(tmp_path, lambda server: add(Health([SERVICE]), server)) as socket,
        channel_to(socket) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(channel, "no.Such")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "unknown service 'no.Such'"


async def test_a_watcher_is_told_when_the_server_drains(tmp_path: Path) -> None:
    """Whoever watches learns of the drain at once, and whoever comes later learns it first."""
    health = Health([SERVICE])
    async with (
        serving(tmp_path, lambda server: add(health, server)) as socket,
        channel_to(socket) as channel,
        asyncio.timeout(10),
    ):
        early, unknown = watch(channel, SERVICE), watch(channel, "no.Such")
        first, nothing = await anext(early), await anext(unknown)
        health.drain()
        second = await anext(early)
        late = await anext(watch(channel, ""))

    assert (first, second) == (Status.SERVING, Status.NOT_SERVING)
    assert nothing == Status.SERVICE_UNKNOWN
    assert late == Status.NOT_SERVING
