"""A certificate follows its routes on a real Envoy, and nobody notices but new handshakes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from control_plane.envoy.bootstrap import AdsVariant
from tests.e2e import traffic
from tests.e2e.record import CertificateRecord
from tests.e2e.site import COMMITTED, Render, over_ads, site
from tests.e2e.static_listener import over_sds
from tests.promises import none_failed

TRANSPORTS = pytest.mark.parametrize(
    "render",
    [
        over_ads(AdsVariant.DELTA),
        over_ads(AdsVariant.SOTW),
        over_sds(AdsVariant.DELTA),
        over_sds(AdsVariant.SOTW),
    ],
    ids=["delta-ads", "sotw-ads", "delta-sds", "sotw-sds"],
)
MODIFIED = "listener_manager.listener_modified"


@TRANSPORTS
async def test_a_certificate_follows_its_routes(tmp_path: Path, render: Render) -> None:
    """Map, map another, unmap: each is served within the call, under requests that never fail.

    The listener is never touched, an open connection stays, and Envoy is the same process.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b", render=render) as b:
        source = await cloud.caller("app-b")
        modified = await b.envoy.stat(MODIFIED)
        first = await b.serves()
        assert first.names == (b.guid,)
        assert first.addresses == (b.address,)

        assert (await cloud.map("app-b", "app-b")).complete
        async with (
            traffic.fresh_requests(b, "app-b", source) as fresh,
            traffic.kept_alive(b, "app-b", source) as kept,
        ):
            assert (await cloud.map("app-b", "second")).complete
            second = await b.serves()
            async with b.connect("0.second", source) as connection:
                assert connection.leaf == second
            assert (await cloud.unmap("app-b", "second")).complete
            third = await b.serves()
            with pytest.raises(ssl.SSLCertVerificationError):
                await b.get("second", source)

        indexed = ("0.app-b.apps.internal", "app-b.apps.internal")
        both = ("0.app-b.apps.internal", "0.second.apps.internal")
        assert second.names == (b.guid, *both, "app-b.apps.internal", "second.apps.internal")
        assert third.names == (b.guid, *indexed)
        assert len({first.serial, second.serial, third.serial}) == 3
        none_failed(fresh)
        none_failed(kept)
        assert min(fresh.done, kept.done) > 5
        assert await b.envoy.stat(MODIFIED) == modified
        assert await b.envoy.restart_epoch() == 0


@TRANSPORTS
async def test_a_burst_of_changes_is_a_few_certificates(tmp_path: Path, render: Render) -> None:
    """Of 100 routes mapped at once the last certificate has all; most are never sent."""
    async with site(tmp_path) as cloud, cloud.run("app-b", render=render) as b:
        source = await cloud.caller("app-b")
        await cloud.map("app-b", "steady")
        record = CertificateRecord()
        cloud.core.nodes.observe(record)
        hosts = [f"host-{number}" for number in range(100)]

        async with traffic.fresh_requests(b, "steady", source) as calls:
            answers = await asyncio.gather(*(cloud.map("app-b", host) for host in hosts))

        assert all(answer.complete for answer in answers)
        names = set((await b.serves()).names)
        assert {f"{host}.apps.internal" for host in hosts} < names
        assert 0 < record.acks == len(record.sent_versions) < 50
        assert record.nacks == []
        none_failed(calls)


async def test_a_hundred_changes_in_a_row(tmp_path: Path) -> None:
    """Each is committed at once, whatever Envoy does; what it has in the end is the last."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        source = await cloud.caller("app-b")
        await cloud.map("app-b", "steady")
        record = CertificateRecord()
        cloud.core.nodes.observe(record)
        modified = await b.envoy.stat(MODIFIED)

        async with traffic.fresh_requests(b, "steady", source) as calls:
            for number in range(50):
                await cloud.map("app-b", f"host-{number}", wait=COMMITTED)
                await cloud.unmap("app-b", f"host-{number}", wait=COMMITTED)
            await cloud.map("app-b", "last")

        assert (await b.serves()).names[-2:] == ("last.apps.internal", "steady.apps.internal")
        assert record.acks <= 102
        assert record.nacks == []
        none_failed(calls)
        assert await b.envoy.stat(MODIFIED) == modified


async def test_an_app_without_routes_still_has_a_certificate(tmp_path: Path) -> None:
    """After its last route was unmapped, an instance is known by its GUID and its address."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        source = await cloud.caller("app-b")
        await cloud.map("app-b", "app-b")
        async with traffic.kept_alive(b, "app-b", source) as calls:
            assert (await cloud.unmap("app-b", "app-b")).complete

            leaf = await b.serves()
            async with b.connect("", source) as connection:
                assert (await connection.request()).status == 200
        assert leaf.names == (b.guid,)
        none_failed(calls)


async def test_two_instances_of_an_app_have_certificates_of_their_own(tmp_path: Path) -> None:
    """The same routes, their own index, GUID, address and key."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as first:
        async with cloud.start("app-b", first.app) as second:
            await cloud.map("app-b", "shared")
            leaves = [await each.serves() for each in (first, second)]

        assert [each.names for each in leaves] == [
            (first.guid, "0.shared.apps.internal", "shared.apps.internal"),
            (second.guid, "1.shared.apps.internal", "shared.apps.internal"),
        ]
        assert leaves[0].serial != leaves[1].serial
        assert [each.addresses for each in leaves] == [(first.address,), (second.address,)]
