"""The same rules with real Envoys: who gets a configuration, who loses it, and who comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.envoy.bootstrap import AdsVariant
from control_plane.errors import Unavailable
from control_plane.settings import SocketAddress
from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import C2C_PORT, DEADLINE, unique_address
from tests.security.envoys import envoy_of
from tests.security.holders import (
    Holder,
    foreign_authority,
    identity_request,
    issued,
    nobody,
    operator_request,
)
from tests.security.world import (
    bystander,
    control_plane,
    delete_app,
    enrol,
    is_gone,
    renew,
)
from tests.sidecar.platform import Platform, free_port
from tests.sidecar.scene import Caller

Attacker = Callable[[Platform, Holder], Holder]

REFUSED: dict[str, Attacker] = {
    "no certificate": lambda cf, own: nobody(cf, own.guid),
    "a certificate of another CA": lambda cf, own: issued(
        cf, identity_request(cf, own), by=foreign_authority(), guid=own.guid
    ),
    "a certificate that has expired": lambda cf, own: issued(
        cf,
        identity_request(cf, own),
        age=timedelta(seconds=6),
        lifetime=timedelta(seconds=4),
        guid=own.guid,
    ),
    "an operator's certificate": lambda cf, own: issued(cf, operator_request(cf), guid=own.guid),
}


@pytest.mark.parametrize("shown", REFUSED)
async def test_an_envoy_without_its_identity_gets_no_configuration(
    tmp_path: Path, shown: str
) -> None:
    """However often it comes back, it has no listener, no cluster and no secret."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        own = await enrol(cf, "app-b", unique_address())
        async with envoy_of(cf, REFUSED[shown](cf, own), tmp_path / "envoy") as armed:
            await there.rotates()
            await armed.is_turned_away()


async def test_an_envoy_that_says_to_be_another_gets_no_configuration(tmp_path: Path) -> None:
    """A node.id that is not the certificate's is refused, whoever's it is."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        own = await enrol(cf, "app-b", unique_address())
        liar = replace(own, guid=there.holder.guid)
        async with envoy_of(cf, liar, tmp_path / "envoy") as armed:
            await armed.is_turned_away()
            armed_nodes = {live.node_id for live in cf.running.core.nodes.all_streams()}

        assert armed_nodes == {there.holder.guid}
        assert len(cf.running.core.nodes.streams(there.holder.guid)) == 1


async def test_an_envoy_comes_back_with_its_new_identity(tmp_path: Path) -> None:
    """A renamed file is enough: no request fails, and the stream is of the new certificate."""
    async with control_plane(tmp_path) as cf, tcp_app(http1()) as app:
        await cf.create_app("app-b", port=app.port)
        await cf.map_route("app-b", "app-b")
        old = await enrol(cf, "app-b", unique_address())
        instance = (await cf.instances_of("app-b"))[0]
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, "app-b.apps.internal")
        async with envoy_of(cf, old, tmp_path / "envoy") as armed:
            await caller.reaches(instance.address)
            new = await renew(cf, old)
            armed.take(new)
            answers = 0
            async with asyncio.timeout(DEADLINE):
                while shown_on_streams(cf, old) != {new.serial}:
                    assert (await caller.call(instance.address)).status == 200
                    answers += 1

            assert answers > 0
            assert await armed.envoy.restart_epoch() == 0
            assert await armed.envoy.stat("listener_manager.listener_modified") == 0


def shown_on_streams(cf: Platform, holder: Holder) -> set[int]:
    """Return the serials of the certificates by which the streams of an instance were let in."""
    streams = cf.running.core.nodes.streams(holder.guid)
    return {each.credential.serial for each in streams if each.credential is not None}


@pytest.mark.parametrize("how", ["the instance is removed", "its app is deleted"])
async def test_an_envoy_of_a_removed_instance_serves_nobody(tmp_path: Path, how: str) -> None:
    """Its listeners go first, then its stream, and with its valid certificate it cannot return."""
    async with (
        control_plane(tmp_path) as cf,
        bystander(cf) as there,
        tcp_app(http1()) as app,
    ):
        await cf.create_app("app-b", port=app.port)
        await cf.map_route("app-b", "app-b")
        holder = await enrol(cf, "app-b", unique_address())
        instance = (await cf.instances_of("app-b"))[0]
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, "app-b.apps.internal")
        async with envoy_of(cf, holder, tmp_path / "envoy") as armed:
            await caller.reaches(instance.address)
            if how == "its app is deleted":
                await delete_app(cf, "app-b")
            else:
                await cf.remove(holder.guid)
            await is_gone(cf, holder)
            await armed.has_lost_everything()
            await armed.comes_back()

            with pytest.raises(OSError, match=str(C2C_PORT)):
                await caller.call(instance.address)
            await armed.has_lost_everything()
            await is_gone(cf, holder)
        await there.rotates()


@pytest.mark.parametrize("ads", AdsVariant, ids=str)
@pytest.mark.parametrize("while_", ["the control plane was down", "it was between two streams"])
async def test_an_envoy_that_was_away_when_its_instance_was_removed_serves_nobody(
    tmp_path: Path, while_: str, ads: AdsVariant
) -> None:
    """It serves as ever until it comes back, is told, and then it cannot return."""
    xds_address = SocketAddress("127.0.0.1", free_port())
    async with control_plane(tmp_path, xds_address=xds_address) as cf, tcp_app(http1()) as app:
        await cf.create_app("app-b", port=app.port)
        await cf.map_route("app-b", "app-b")
        holder = await enrol(cf, "app-b", unique_address())
        instance = (await cf.instances_of("app-b"))[0]
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, "app-b.apps.internal")
        async with envoy_of(cf, holder, tmp_path / "envoy", ads) as armed:
            await caller.reaches(instance.address)
            if while_ == "the control plane was down":
                await cf.stop()
                assert (await caller.call(instance.address)).status == 200
                armed.envoy.pause()
                await cf.start()
            else:
                armed.envoy.pause()
                for live in cf.running.core.nodes.streams(holder.guid):
                    live.end(Unavailable("come back"))
                await is_gone(cf, holder)
            await cf.remove(holder.guid)
            armed.envoy.resume()
            await armed.has_lost_everything()

            with pytest.raises(OSError, match=str(C2C_PORT)):
                await caller.call(instance.address)
            await armed.comes_back()
            await armed.has_lost_everything()
            await is_gone(cf, holder)
