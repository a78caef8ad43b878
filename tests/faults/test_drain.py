"""A stop of the control plane as load balancers, Envoys and operators see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from control_plane.api.v1 import progress_pb2
from control_plane.api.v1.route_pb2 import MapRouteRequest
from control_plane.api.v1.route_pb2_grpc import RouteServiceStub
from control_plane.model.entities import InstanceStatus
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership import absences
from control_plane.settings import SocketAddress
from tests.api.test_health import watch
from tests.faults.plane import Plane
from tests.faults.test_restarts import reconnected, scene, updates
from tests.security.test_addresses import connected
from tests.security.world import control_plane, enrol, stream

Status = health_pb2.HealthCheckResponse


async def test_a_stop_is_announced_first_and_costs_envoy_nothing(tmp_path: Path) -> None:
    """Health, then streams, then the process; Envoy serves on, and is told nothing afterwards."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.cp.recorded(await here.serial())
        before = await updates(instance.envoy)
        attempts = await instance.envoy.stat("cluster_manager.cds.update_attempt")
        async with _watched(here.cp) as statuses:
            assert await anext(statuses) == Status.SERVING
            assert await _ready(here.cp.settings.http_address) == 200
            stopping = asyncio.create_task(here.cp.stop())
            assert await anext(statuses) == Status.NOT_SERVING
            await stopping

        assert (await here.caller.call(here.address)).status == 200
        _check_order(here.cp.log)
        await here.cp.start()
        await reconnected(instance.envoy, attempts)
        await here.cp.synced()
        assert await updates(instance.envoy) == before


async def test_nobody_is_gone_because_the_control_plane_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop may take longer than an instance may be away, and ends the first streams early."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
            monkeypatch.setattr(absences, "GRACE_SECONDS", 0.0)
            registry = cf.running.core.registry
            await cf.stop()

    instance = registry.state.instance(InstanceGuid(holder.guid))
    assert instance is not None
    assert instance.status is InstanceStatus.READY


async def test_a_stop_is_not_taken_for_the_arrival_of_a_change(tmp_path: Path) -> None:
    """Who waits for an instance that has not ACKed is told so, and nothing says it is served."""
    asked = MapRouteRequest(app="app-b", hostname="new", wait=progress_pb2.WAIT_SERVED)
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf:
            await cf.create_app("app-b")
            holder = await enrol(cf, "app-b", "127.0.2.1")
            async with stream(cf, holder) as client, cf.operator() as channel:
                await connected(cf, client, holder)
                waiting = RouteServiceStub(channel).MapRoute(asked)
                await client.receive()
                del lines[:]
                await cf.stop()
                answer = await waiting

    assert not answer.complete
    assert [(each.reason, each.stopping) for each in answer.behind] == [
        ("the control plane is stopping", True)
    ]
    assert not {"change.acked", "change.served"} & {line["event"] for line in lines}


def _check_order(log: list[str]) -> None:
    told = [json.loads(line) for line in log if line.startswith("{")]
    order = [each["event"] for each in told]
    stopping, stopped = order.index("server.stopping"), order.index("server.stopped")
    drained = order.index("streams.drained")
    closed = [at for at, event in enumerate(order) if event == "stream.closed"]
    assert stopping < min(closed) <= max(closed) < drained < stopped
    assert told[drained]["streams"] == len(closed) == 1
    assert told[drained]["forced"] == 0
    assert "instance.gone" not in order


@contextlib.asynccontextmanager
async def _watched(cp: Plane) -> AsyncIterator[AsyncIterator[int]]:
    """Watch the health of the control plane until the block ends."""
    async with cp.operator() as channel:
        yield watch(channel, "")


async def _ready(address: SocketAddress) -> int:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with contextlib.closing(writer):
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: c\r\n\r\n")
        return int((await reader.readline()).split()[1])
