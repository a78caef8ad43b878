"""An app that changes while its instances run: its Envoys follow without a restart."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.envoy.bootstrap import AdsVariant
from control_plane.model.instances import move_instance
from control_plane.names import InstanceGuid
from tests.e2e import strangers, traffic
from tests.e2e.site import CALLER, Instance, Site, over_ads, site
from tests.envoy import apps, http2
from tests.envoy.harness import unique_address, until
from tests.promises import none_failed

VARIANTS = pytest.mark.parametrize("variant", list(AdsVariant), ids=["delta", "sotw"])


@contextlib.asynccontextmanager
async def two_ports(
    cloud: Site, variant: AdsVariant, *, drain_time_s: int = 1
) -> AsyncIterator[Instance]:
    """Run an app that speaks HTTP on 8080 and its own tongue on 9090; only 8080 is known."""
    address = unique_address(8080)
    async with (
        apps.tcp_app(apps.http1(), address=address, port=8080) as running,
        apps.tcp_app(apps.banner, address=address, port=9090),
    ):
        await cloud.create_app("app-b")
        render = over_ads(variant)
        async with cloud.start("app-b", running, render=render, drain_time_s=drain_time_s) as b:
            await cloud.map("app-b", "app-b")
            yield b


@VARIANTS
async def test_ports_come_and_go(tmp_path: Path, variant: AdsVariant) -> None:
    """A port that is added disturbs nobody, and ports that change places pass through no gap."""
    async with site(tmp_path) as cloud, two_ports(cloud, variant) as b:
        source = await cloud.caller("app-b", ports="61001-61443")
        async with traffic.kept_alive(b, "app-b", source) as kept:
            assert not await _listens(b, source, 61002)
            await cloud.update_app("app-b", ports=[8080, 9090])
            assert await _listens(b, source, 61002)
        none_failed(kept)

        await cloud.update_app("app-b", ports=[9090, 8080])
        assert await b.get("", source, port=61002) == 200
        assert await b.get("app-b", source) == 200

        await cloud.update_app("app-b", ports=[8080])
        assert await b.get("", source, port=61001) == 200
        assert not await _listens(b, source, 61002)
        assert await b.envoy.stat("listener_manager.lds.update_rejected") == 0


@VARIANTS
async def test_open_connections_outlive_their_port(tmp_path: Path, variant: AdsVariant) -> None:
    """Requests on those that drain reach the port that they were opened to."""
    async with site(tmp_path) as cloud, two_ports(cloud, variant, drain_time_s=20) as b:
        source = await cloud.caller("app-b", ports="61001-61443")
        await cloud.update_app("app-b", ports=[9090, 8080], c2c_port=8080)
        async with (
            b.connect("app-b", source) as replaced,
            b.connect("", source, port=61002) as withdrawn,
        ):
            for each in (replaced, withdrawn):
                assert (await each.request()).status == 200
            await cloud.update_app("app-b", ports=[9090], c2c_port=9090)
            for each in (replaced, withdrawn):
                assert (await each.request()).status == 200


@VARIANTS
async def test_an_app_learns_another_protocol(tmp_path: Path, variant: AdsVariant) -> None:
    """From HTTP to bytes and back: no ALPN then, and no filter that would be missing."""
    async with site(tmp_path) as cloud, two_ports(cloud, variant) as b:
        source = await cloud.caller("app-b")

        await cloud.update_app("app-b", protocol="tcp")
        async with b.connect("app-b", source, alpn=("http/1.1",)) as connection:
            assert connection.leaf.alpn is None
            assert (await connection.request()).status == 200
        await cloud.update_app("app-b", protocol="http1")

        async with b.connect("app-b", source, alpn=("h2",)) as connection:
            assert connection.leaf.alpn == "h2"
        assert await b.get("app-b", source) == 200
        assert await b.envoy.stat("listener_manager.lds.update_rejected") == 0


@VARIANTS
async def test_open_connections_outlive_another_protocol(
    tmp_path: Path, variant: AdsVariant
) -> None:
    """A client that may is not told 403 on one that drains, and is no more once it may not."""
    async with site(tmp_path) as cloud, two_ports(cloud, variant, drain_time_s=20) as b:
        source = await cloud.caller("app-b")
        async with b.connect("app-b", source) as connection:
            assert (await connection.request()).status == 200
            await cloud.update_app("app-b", protocol="tcp")
            assert (await connection.request()).status == 200
            await cloud.forbid(CALLER, "app-b")
            assert (await connection.request()).status == 403


async def test_requests_that_drain_are_sent_as_before(tmp_path: Path) -> None:
    """The app of HTTP/2 that is called a tcp app from now on is not asked in HTTP/1.1."""
    address = unique_address(8080)
    async with (
        site(tmp_path) as cloud,
        apps.tcp_app(http2.http2_app, address=address, port=8080) as app,
    ):
        await cloud.create_app("app-b", protocol="http2")
        async with cloud.start("app-b", app, drain_time_s=20) as b:
            await cloud.map("app-b", "app-b")
            source = await cloud.caller("app-b")
            async with b.connect("app-b", source) as connection:
                assert (await connection.request()).status == 200
                await cloud.update_app("app-b", protocol="tcp")
                assert (await connection.request()).status == 200
            async with b.connect("app-b", source, alpn=("h2",)) as bytes_only:
                assert bytes_only.leaf.alpn is None


@VARIANTS
async def test_an_instance_moves(tmp_path: Path, variant: AdsVariant) -> None:
    """It listens at its new address, which its certificate has, and no longer at the old one."""
    async with site(tmp_path) as cloud, two_ports(cloud, variant) as b:
        source = await cloud.caller("app-b")
        address = unique_address()
        await cloud.core.registry.execute(
            lambda state: move_instance(state, InstanceGuid(b.guid), address)
        )
        await cloud.settled("app-b")
        moved = replace(b, ticket=replace(b.ticket, address=address))

        async def is_there() -> bool:
            return await _listens(moved, source, 61443)

        await until(is_there, what="the new address is served")
        assert await moved.get("app-b", source) == 200
        assert (await moved.serves()).addresses == (address,)
        with pytest.raises(ConnectionRefusedError):
            await b.get("app-b", source)


async def _listens(instance: Instance, source: str, port: int) -> bool:
    return await strangers.sees_certificate(instance.address, source, port)
