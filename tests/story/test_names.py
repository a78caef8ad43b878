"""Names, certificates and instances together, as a client in another container sees them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tests.story.stage import Stage, place, stage
from tests.waiting import ended


class Watcher:
    """A client that resolves, connects and verifies, again and again."""

    def __init__(self, scene: Stage, host: str) -> None:
        """Watch one name."""
        self._scene = scene
        self._host = host
        self.resolved = 0
        self.unresolved = 0
        self.mismatches: list[str] = []
        self.other: list[str] = []

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            addresses = await self._scene.resolve(self._host)
            if not addresses:
                self.unresolved += 1
                await asyncio.sleep(0.001)
                continue
            try:
                await self._scene.get(self._host, addresses[0])
            except ssl.SSLCertVerificationError as error:
                self.mismatches.append(str(error))
            except OSError as error:
                self.other.append(repr(error))
            self.resolved += 1


async def test_a_name_never_leads_to_a_certificate_without_it(tmp_path: Path) -> None:
    """Over 50 map and unmap cycles nobody who resolves a name sees a certificate that lacks it."""
    async with stage(tmp_path, servers=2) as scene:
        await scene.world.map_route("steady")
        watcher = Watcher(scene, "shop")
        watching = asyncio.create_task(watcher.run())
        for _ in range(50):
            await scene.world.map_route("shop")
            await scene.until_resolved("shop", {each.address for each in scene.servers})
            await scene.world.unmap_route("shop")
            await scene.until_resolved("shop", set())
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

        assert (watcher.mismatches, watcher.other) == ([], [])
        assert watcher.resolved > 50
        assert watcher.unresolved > 50


async def test_a_shared_route_resolves_to_all_apps_and_each_index_to_one(tmp_path: Path) -> None:
    """Two apps may share a route: it leads to all their instances, ``<index>.<route>`` to some."""
    async with stage(tmp_path, servers=2) as scene:
        world, other = scene.world, place("app-c", "app-c/0")
        await world.create_app("app-c")
        await world.allow("app-c")
        await scene.add(other)
        await world.map_route("shared", "app-b")
        await world.map_route("shared", "app-c")
        state = world.control_plane.core.registry.state
        indices = {str(each.address): each.index for each in state.all_instances()}
        everybody = {each.address for each in scene.servers}

        await scene.until_resolved("shared", everybody)
        for index in (0, 1):
            expected = {address for address in everybody if indices[address] == index}
            await scene.until_resolved(f"{index}.shared", expected)
            for address in expected:
                assert (await scene.get(f"{index}.shared", address)).status == "200 OK"


async def test_an_instance_that_leaves_is_not_resolved_any_more(tmp_path: Path) -> None:
    """An instance that stops says so first: its name goes at once and no request fails after."""
    async with stage(tmp_path, servers=2) as scene:
        await scene.world.map_route("shop")
        gone, stays = scene.servers
        await scene.until_resolved("shop", {gone.address, stays.address})
        sidecar = scene.world.sidecars[gone.label]
        sidecar.process.terminate()
        await scene.until_resolved("shop", {stays.address})
        for _ in range(50):
            assert (await scene.get("shop")).status == "200 OK"

        await ended(sidecar.process, "the sidecar")
        assert (await scene.get("shop")).status == "200 OK"


async def test_an_instance_that_was_killed_comes_back_as_itself(tmp_path: Path) -> None:
    """A sidecar that is killed and started again has its identity, index and names as before."""
    async with stage(tmp_path) as scene:
        world, server = scene.world, scene.servers[0]
        await world.map_route("shop")
        before = await scene.get("shop")
        registry = world.control_plane.core.registry
        known = {each.guid: each.index for each in registry.state.all_instances()}
        await world.kill_sidecar(server)
        await world.start_sidecar(server)
        after = await scene.until_served("shop")

        assert known == {each.guid: each.index for each in registry.state.all_instances()}
        assert before.names == after.names
