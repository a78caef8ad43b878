"""``kill -9`` of a control plane: what it answered is there, and Envoys notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import grpc

from control_plane.ca import load_authority
from control_plane.clock import SystemClock
from tests.e2e import traffic
from tests.e2e.site import COMMITTED, Site, site_of
from tests.envoy.harness import until
from tests.faults.plane import Plane, plane
from tests.promises import none_failed

START_SECONDS = 60.0
"""What a start may take on a machine that is busy with other tests."""


async def map_until_killed(cloud: Site, prefix: str, answered: set[str]) -> None:
    """Map one route after another; note each that was answered."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        for number in range(1000):
            host = f"{prefix}-{number}"
            await cloud.map("app-b", host, wait=COMMITTED)
            answered.add(f"{host}.apps.internal")


async def test_what_was_answered_is_served_after_a_kill(tmp_path: Path) -> None:
    """Killed amid mappings, it comes back with every one of them, and so does the certificate.

    All the while requests are served, over old connections and new ones.
    """
    answered: set[str] = set()
    async with plane(tmp_path) as server, contextlib.AsyncExitStack() as envoys:
        async with site_of(server, tmp_path) as cloud:
            b = await envoys.enter_async_context(cloud.run("app-b"))
            source = await cloud.caller("app-b")
            await cloud.map("app-b", "steady")
            fresh = await envoys.enter_async_context(traffic.fresh_requests(b, "steady", source))
            kept = await envoys.enter_async_context(traffic.kept_alive(b, "steady", source))
            mapping = [
                asyncio.create_task(map_until_killed(cloud, each, answered)) for each in "abcdefgh"
            ]

            async def are_under_way() -> bool:
                return len(answered) >= 100

            await until(are_under_way, what="100 routes are mapped")
            await server.kill()
            await asyncio.gather(*mapping)
        authority = server.settings.data_dir / "ca.pem"
        made = authority.read_bytes()
        await fresh.more(20)
        await kept.more(20)

        await server.start()
        async with site_of(server, tmp_path) as cloud:
            assert answered <= await cloud.routes()
            await cloud.map("app-b", "afterwards", wait=COMMITTED)

            async def is_served() -> bool:
                return {*answered, "afterwards.apps.internal"} <= {*(await b.serves()).names}

            await until(is_served, what="the certificate has every route")
            assert (await cloud.map("app-b", "later")).complete
        await kept.more()
        assert authority.read_bytes() == made
        none_failed(fresh, kept)


async def start_and_kill(server: Plane, moment: Callable[[], bool]) -> None:
    """Start a control plane, and kill it once a moment of its start has come."""
    serves = await server.launch()

    async def has_come() -> bool:
        assert not serves.done() or serves.result(), "the control plane ended by itself"
        return moment()

    await until(has_come, what="the moment to kill it", timeout=START_SECONDS)
    await server.kill()


async def test_a_first_start_that_is_killed_leaves_nothing_by_half(tmp_path: Path) -> None:
    """Killed at one step after the other, each start makes what is missing and keeps what is there.

    The CA, once it is there, is the one for good.
    """
    async with plane(tmp_path, starts=False) as server:
        data = server.settings.data_dir
        authority = data / "ca.pem"
        for each in (data, data / "c2c.db", authority):
            await start_and_kill(server, each.exists)
        made = authority.read_bytes()

        await server.start()
        async with site_of(server, tmp_path) as cloud:
            trust = cloud.trust

        assert authority.read_bytes() == made
        assert authority.stat().st_mode & 0o777 == 0o600
        key, mark, certificate = made.partition(b"-----BEGIN CERTIFICATE-----")
        assert trust == mark + certificate
        # Refuses a key that is not the certificate's.
        load_authority(mark + certificate, key, now=SystemClock().now())
