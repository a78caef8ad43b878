"""A server that is closed while calls go on."""

from __future__ import annotations

import asyncio
import sys

from control_plane.clock import SystemClock
from control_plane.server.closing import Closing
from control_plane.server.drain import Drain
from control_plane.xds.resource_type import SECRET
from tests.server.slow_call import SlowCall
from tests.server.test_stalled_clients import Stalled
from tests.server.world import Counting, resource, served
from tests.waiting import eventually, output
from tests.xds_client import PATIENCE, SILENCE, DeltaClient

ROUNDS = 60


async def test_calls_go_on_until_they_are_cut() -> None:
    """A server that closes serves whoever is there, for as long as it is told."""
    async with served() as world, DeltaClient(world.channel, "node") as client:
        await client.subscribe(SECRET, "a")
        world.set("node", resource(SECRET, "a", "1"))
        await client.ack(await client.receive())
        closing = Closing(world.server)
        world.set("node", resource(SECRET, "a", "2"))
        assert (await client.receive()).resources[0].resource.value == b"2"
        async with asyncio.timeout(PATIENCE):
            await closing.cut(0.01)
        await eventually(lambda: not world.nodes.all_streams(), "the stream is cut")


async def test_a_call_that_ends_in_time_is_not_cut() -> None:
    """It is answered although the server closes; after that nothing is left of the server."""
    slow = SlowCall()
    async with slow.served() as server, slow.called() as calling:
        closing = Closing(server)
        cutting = asyncio.create_task(closing.cut(PATIENCE))
        await asyncio.wait([calling], timeout=SILENCE)
        slow.go_on.set()

        assert await calling == b"answer"

        await cutting
        assert closing._over.done()


async def test_a_time_that_ends_as_the_last_call_does_is_survived() -> None:
    """Whatever ends at the moment at which a server is gone, the process goes on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"from {__name__} import race; race()", stderr=asyncio.subprocess.PIPE
    )
    _, told = await output(process, "what drains servers")
    assert process.returncode == 0, told.decode()


def race() -> None:
    """Drain servers whose last stream ends as the time does; a defect takes the process with it."""
    asyncio.run(_race())


async def _race() -> None:
    for _ in range(ROUNDS):
        counting = Counting()
        async with served() as world:
            world.nodes.observe(counting)
            async with Stalled(world, counting):
                await Drain(world.service, SystemClock()).run([world.server], [], 0.02)
