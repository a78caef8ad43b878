"""Identities that live for seconds, renewed under a running Envoy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from control_plane.names import InstanceGuid
from tests.e2e import traffic
from tests.envoy.harness import until
from tests.promises import none_failed
from tests.sidecar.platform import Platform
from tests.sidecar.scene import scene

LIFETIME = timedelta(seconds=8)
RENEWALS = 5


async def known_by(cf: Platform, instance: str, serial: int) -> None:
    """Wait until every stream of an instance was opened with this certificate."""

    async def probe() -> bool:
        streams = cf.running.core.nodes.streams(InstanceGuid(instance))
        shown = {each.credential.serial for each in streams if each.credential is not None}
        return shown == {serial}

    await until(probe, what=f"the streams of {instance} show {serial:x}")


async def test_renewals_under_load_cost_no_request(tmp_path: Path) -> None:
    """Five renewals, and a control plane restarted in between: each is on the next xDS stream."""
    async with scene(tmp_path, lifetime=LIFETIME) as here, here.instance() as instance:

        async def call() -> None:
            assert (await here.caller.call(here.address)).status == 200

        await here.caller.reaches(here.address)
        serials = []
        async with traffic.calling(call) as calls:
            for number in range(1, RENEWALS + 1):
                renewed = await instance.logged("identity.renewed", times=number)
                serials.append(int(renewed["serial"], 16))
                await known_by(here.cf, renewed["instance"], serials[-1])
                if number == 2:
                    await here.cf.stop()
                    await here.cf.start()

        none_failed(calls)
        assert calls.done > 100
        assert len(set(serials)) == RENEWALS
        assert await instance.envoy.restart_epoch() == 0
