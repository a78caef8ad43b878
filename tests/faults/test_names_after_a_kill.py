"""``kill -9`` between a name and its certificate: neither is ever there without the other."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from control_plane.api.v1 import progress_pb2
from control_plane.planner import NAME_TABLE
from tests.envoy.harness import DEADLINE, until
from tests.faults.test_restarts import NAME, Scene, reconnected, scene
from tests.sidecar.platform import free_port
from tests.sidecar.process import Sidecar
from tests.sidecar.scene import Caller

SECOND = "second.apps.internal"

PATIENT = """
import sys
from control_plane.cli.main import main
from control_plane.sidecar import retry
from control_plane.sidecar.reports import readiness

readiness.NOT_SERVING_SECONDS = 3600.0
retry.delays.__kwdefaults__["most"] = retry.FIRST_SECONDS
sys.argv[0] = "c2c"
main()
"""
"""A sidecar that does not report an Envoy that stands still, and soon comes back after a start.

However long a start takes here: no name would lead to its instance once it is reported, or once its
resolver is back only after the instance counts as gone.
"""


@dataclass(frozen=True, slots=True)
class Resolved:
    """An app with an instance whose sidecar answers DNS.

    Attributes:
        port: where it does, on 127.0.0.1.
    """

    here: Scene
    instance: Sidecar
    port: int

    async def lookup(self, name: str) -> list[str]:
        """Return the addresses to which a name leads."""
        query = dns.message.make_query(name, "A")
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=self.port, timeout=DEADLINE)
        return [str(each) for found in answer.answer for each in found]

    async def until_it_leads(self, name: str, addresses: list[str]) -> None:
        """Wait until a name leads to these addresses."""

        async def probe() -> bool:
            return await self.lookup(name) == addresses

        await until(probe, what=f"{name} leads to {addresses}")

    @contextlib.contextmanager
    def paused(self, process: int) -> Iterator[None]:
        """Stop a process in its tracks until the block ends."""
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)


@contextlib.asynccontextmanager
async def resolved(directory: Path) -> AsyncIterator[Resolved]:
    """Run the scene until its name leads to its instance, and that is on the disk."""
    port = free_port()
    options = ("--dns-address", f"127.0.0.1:{port}")
    program = (sys.executable, "-P", "-c", PATIENT)
    async with scene(directory) as here, here.instance(*options, program=program) as instance:
        made = Resolved(here, instance, port)
        await made.until_it_leads(NAME, [here.address])
        await here.cp.recorded(await here.serial())
        yield made


@pytest.mark.parametrize("is_recorded", [False, True], ids=["unrecorded", "recorded"])
async def test_a_name_leads_to_no_certificate_without_it(
    tmp_path: Path, *, is_recorded: bool
) -> None:
    """A route was mapped, and the Envoy that should ACK its certificate stands still.

    The control plane is killed, before or after it remembered that certificate. After its start
    the old name leads there as before, and the new one once Envoy has ACKed.
    """
    async with resolved(tmp_path) as world:
        here, cp = world.here, world.here.cp
        envoy = world.instance.events("envoy.started")[0]["pid"]
        with world.paused(envoy):
            await cp.map_route("app-b", "second", wait=progress_pb2.WAIT_COMMITTED)
            if is_recorded:
                (instance,) = await cp.statuses("app-b")
                await cp.recorded(int(instance.wanted_serial, 16), acked=False)
            await cp.kill()
            await cp.start()
            await cp.synced(having=NAME_TABLE)

            assert await world.lookup(NAME) == [here.address]
            assert await world.lookup(SECOND) == []

        await world.until_it_leads(SECOND, [here.address])
        second = Caller(here.caller.source, here.caller.ca, SECOND)
        assert (await second.call(here.address)).status == 200


async def test_a_certificate_keeps_a_name_that_may_still_be_answered(tmp_path: Path) -> None:
    """A route was unmapped, and the resolver that should let go of it stands still.

    The control plane is killed. After its start the certificate is the one of before, until the
    resolver is back and answers by that name no more.
    """
    async with resolved(tmp_path) as world:
        here, cp = world.here, world.here.cp
        await cp.map_route("app-b", "second")
        await world.until_it_leads(SECOND, [here.address])
        serial = await here.serial()
        await cp.recorded(serial)
        attempts = await world.instance.envoy.stat("cluster_manager.cds.update_attempt")
        with world.paused(world.instance.process.pid):
            await cp.unmap_route("app-b", "second", wait=progress_pb2.WAIT_COMMITTED)
            await cp.kill()
            await cp.start()
            await reconnected(world.instance.envoy, attempts)
            await cp.synced()

            assert await here.serial() == serial

        async def has_lost_it() -> bool:
            return await here.serial() != serial

        await until(has_lost_it, what="the certificate is without the name")
        assert await world.lookup(SECOND) == []
        async with here.caller.connect(here.address) as client:
            assert SECOND not in client.leaf.names
