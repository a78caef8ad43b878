"""Identities that live for seconds, renewed under a running Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from control_plane.names import InstanceGuid
from tests.envoy.harness import until
from tests.promises import none_failed
from tests.sidecar.platform import Platform
from tests.sidecar.scene import Caller, scene

LIFETIME = timedelta(seconds=8)
RENEWALS = 5


@dataclass(slots=True)
class Load:
    """Requests, one after the other, each on a connection of its own."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@asynccontextmanager
async def load(caller: Caller, address: str) -> AsyncIterator[Load]:
    """Send requests until the block ends."""
    seen = Load()

    async def call() -> None:
        while True:
            try:
                answer = await caller.call(address)
                assert answer.status == 200
                seen.answered += 1
            except Exception as error:  # noqa: BLE001 - each is counted
                seen.failures.append(repr(error))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(call())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


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
        await here.caller.reaches(here.address)
        serials = []
        async with load(here.caller, here.address) as seen:
            for number in range(1, RENEWALS + 1):
                renewed = await instance.logged("identity.renewed", times=number)
                serials.append(int(renewed["serial"], 16))
                await known_by(here.cf, renewed["instance"], serials[-1])
                if number == 2:
                    await here.cf.stop()
                    await here.cf.start()

        none_failed(seen)
        assert seen.answered > 100
        assert len(set(serials)) == RENEWALS
        assert await instance.envoy.restart_epoch() == 0
