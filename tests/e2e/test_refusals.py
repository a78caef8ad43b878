"""What goes wrong between a control plane and an Envoy, and how both go on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.ca.keys import KeyPair, new_key_pair
from control_plane.envoy.bootstrap import AdsVariant
from control_plane.envoy.secrets import tls_secret
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.certificates.held import Held
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SECRET
from tests.e2e import traffic
from tests.e2e.record import NAME, CertificateRecord
from tests.e2e.site import ACKED, READY, Instance, Site, over_ads, site
from tests.envoy import apps
from tests.envoy.harness import C2C_PORT, unique_address, until
from tests.promises import none_failed
from tests.tls_pairs import chain_in

LISTENERS = "listener_manager"
VARIANTS = pytest.mark.parametrize("variant", list(AdsVariant), ids=["delta", "sotw"])


class Fickle(KeyPair):
    """A pair whose private half is somebody else's when it is written down."""

    def private_pem(self) -> bytes:
        """Return another key."""
        return new_key_pair().private_pem()


def held_of(cloud: Site, instance: Instance) -> Held:
    """Return the certificate that an instance should have."""
    held = cloud.core.custody.get(InstanceGuid(instance.guid), NAME)
    assert isinstance(held, Held)
    return held


def issue_with(cloud: Site, new_key: Callable[[], KeyPair]) -> None:
    """Make keys in another way from here on."""
    custody = cloud.core.custody
    custody._custodian = replace(custody._custodian, new_key=new_key)


def spoil(cloud: Site, instance: Instance, app: str) -> str:
    """Have an instance sent a secret whose key belongs to another certificate."""
    core = cloud.core
    held = held_of(cloud, instance)
    key = new_key_pair().private_pem()
    body = tls_secret(NAME, chain_in(held.resource), key)
    bad = replace(held, resource=Resource.of(SECRET, NAME, body))
    core.custody._held[InstanceGuid(instance.guid)][NAME] = bad
    core.reconciler._mark_apps([AppGuid(app)])
    return bad.resource.version


def app_guid(cloud: Site, instance: Instance) -> str:
    """Return the GUID of an instance's app."""
    state = cloud.core.registry.state
    return state.instances[InstanceGuid(instance.guid)].app_guid


async def happens(condition: Callable[[], bool], *, what: str) -> None:
    """Return once this is so."""

    async def probe() -> bool:
        return condition()

    await until(probe, what=what)


async def test_a_key_that_does_not_belong_is_never_sent(tmp_path: Path) -> None:
    """The lint refuses it, the call says so, and Envoy hears of nothing."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        source = await cloud.caller("app-b")
        await cloud.map("app-b", "app-b")
        before = await b.serves()
        record = CertificateRecord()
        cloud.core.nodes.observe(record)

        issue_with(cloud, lambda: Fickle(new_key_pair().private))
        async with traffic.fresh_requests(b, "app-b", source) as calls:
            answer = await cloud.map("app-b", "second", wait=ACKED, timeout=0.5)
            after = await b.serves()

        assert not answer.complete
        (behind,) = answer.behind
        assert behind.instance_guid == b.guid
        assert behind.reason.startswith("no certificate could be issued: ")
        assert behind.reason.endswith("the key does not belong to the certificate")
        assert after.serial == before.serial
        assert record.sent_versions == record.nacks == []
        assert await b.envoy.stat(f"sds.{NAME}.update_rejected") == 0
        none_failed(calls)

        issue_with(cloud, new_key_pair)
        assert (await cloud.map("app-b", "third")).complete
        assert "second.apps.internal" in (await b.serves()).names


@VARIANTS
async def test_a_refused_secret_is_not_sent_again(tmp_path: Path, variant: AdsVariant) -> None:
    """Neither at once nor to the next stream, where Envoy would say that it took it.

    The certificate of before is served all the while, and the next one that is right replaces it.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b", render=over_ads(variant)) as b:
        source = await cloud.caller("app-b")
        await cloud.map("app-b", "app-b")
        before = await b.serves()
        record = CertificateRecord()
        core = cloud.core
        core.nodes.observe(record)

        async with traffic.fresh_requests(b, "app-b", source) as calls:
            bad = spoil(cloud, b, app_guid(cloud, b))
            await happens(lambda: bool(record.nacks), what="Envoy refuses the secret")
            for live in core.nodes.streams(b.guid):
                live.end(None)
            await happens(lambda: record.streams == 1, what="Envoy comes back")
            answer = await cloud.map("app-b", "app-b", wait=ACKED, timeout=0.3)

            assert record.sent_versions == [bad]
            assert "KEY_VALUES_MISMATCH" in record.nacks[0]
            assert [each.reason.partition(":")[0] for each in answer.behind] == [
                f"it refused {NAME}"
            ]
            assert (await b.serves()).serial == before.serial

            assert (await cloud.map("app-b", "second")).complete

        assert (await b.serves()).serial == held_of(cloud, b).serial != before.serial
        assert record.sent_versions == [bad, held_of(cloud, b).resource.version]
        assert len(record.nacks) == 1
        none_failed(calls)


@VARIANTS
async def test_a_port_that_was_taken_is_served_once_it_is_free(
    tmp_path: Path, variant: AdsVariant
) -> None:
    """Envoy refuses that listener and takes the other; the same bytes are sent again until then."""
    address, app_address = unique_address(), unique_address(8080)
    async with (
        site(tmp_path) as cloud,
        apps.tcp_app(apps.http1(), address=app_address, port=8080) as app,
    ):
        await cloud.create_app("app-b")
        with contextlib.closing(socket.create_server((address, C2C_PORT))) as taken:
            async with cloud.start(
                "app-b", app, render=over_ads(variant), address=address, is_served=False
            ) as b:
                await b.envoy.wait_for(
                    lambda stats: stats.get(f"{LISTENERS}.listener_create_failure", 0) > 0,
                    what="Envoy fails to bind",
                    prefix=LISTENERS,
                )
                assert await b.envoy.stat(f"{LISTENERS}.total_listeners_active") == 1
                assert cloud.status(b.guid) is not READY
                behind = (await cloud.map("app-b", "app-b", wait=ACKED, timeout=0.1)).behind
                assert "it refused listener-8080-61443" in behind[0].reason
                assert "Address already in use" in behind[0].reason

                taken.close()

                await cloud.until_served(b)
                assert "app-b.apps.internal" in (await b.serves()).names
