"""Many changes at once: whom they do not concern notices nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control_plane.api.v1 import progress_pb2
from control_plane.demo.client import RequestLoop
from control_plane.demo.places import DOMAIN
from control_plane.sidecar.directory import ADMIN_SOCKET
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from tests.promises import none_failed
from tests.story.stage import Stage, stage

CHANGES = 200


class Asking:
    """A resolver's client that asks without a pause."""

    def __init__(self, scene: Stage, host: str) -> None:
        """Ask for one name."""
        self._scene = scene
        self._host = host
        self.answered = 0
        self.unanswered: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._enough = False

    def start(self) -> None:
        """Start asking."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop after the question that is under way."""
        self._enough = True
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._enough:
            await asyncio.sleep(0.002)
            try:
                addresses = await self._scene.resolve(self._host)
            except Exception as error:  # noqa: BLE001 - whatever it is, no answer came
                self.unanswered.append(repr(error))
                continue
            self.answered += bool(addresses)
            if not addresses:
                self.unanswered.append("no address")


async def test_changes_disturb_nobody_whom_they_do_not_concern(tmp_path: Path) -> None:
    """During 200 changes of routes and policies no request fails and no query stays unanswered."""
    async with stage(tmp_path) as scene:
        world, server = scene.world, scene.servers[0]
        await world.map_route("steady")
        await scene.until_resolved("steady", {server.address})
        await world.create_app("app-c")
        asking = Asking(scene, "steady")
        requests = RequestLoop(scene.trust, [f"steady.{DOMAIN}"], source=scene.caller.address)
        asking.start()
        requests.start()
        hosts = [f"route-{number}" for number in range(CHANGES // 4)]
        for host in hosts:
            await world.map_route(host)
            await world.allow(source="app-c")
            await world.forbid(source="app-c")
        for host in hosts:
            # Each on its own would take the second for which an unmapped name lingers.
            await world.unmap_route(host, wait=progress_pb2.WAIT_COMMITTED)
        await scene.until_resolved(hosts[-1], set())
        await requests.stop()
        await asking.stop()
        admin = EnvoyAdmin(world.sidecars[server.label].directory / ADMIN_SOCKET)
        draining = await admin._ask("GET", "/stats?filter=total_listeners_draining")

        assert asking.unanswered == []
        none_failed(requests)
        assert requests.sent > CHANGES
        assert asking.answered > CHANGES
        assert draining.strip() == "listener_manager.total_listeners_draining: 0"
