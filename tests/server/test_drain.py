"""A server that stops: in which order streams end, how many at a time, and which are cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane.clock import SystemClock
from control_plane.server import drain
from control_plane.server.closing import Closing
from control_plane.server.drain import SLICES, SPREAD, STREAMS_PER_SECOND, Drain
from control_plane.server.metrics.collector import DiscoveryCollector
from control_plane.xds.resource_type import CLUSTER, SECRET
from tests.server.slow_call import SlowCall
from tests.server.test_stalled_clients import Stalled
from tests.server.world import Counting, World, resource, served
from tests.waiting import eventually
from tests.xds_client import PATIENCE, DeltaClient, plaintext_channel


@dataclass(slots=True)
class Steps:
    """A clock on which every wait lasts until the test says so, and then as long as it should."""

    seconds: float = 1000.0
    waits: list[float] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait for the test."""
        self.waits.append(seconds)
        await self.go_on.wait()
        self.go_on.clear()
        self.seconds += seconds


async def _clients(stack: AsyncExitStack, world: World, count: int) -> list[DeltaClient]:
    """Open streams, each over a connection of its own, that have what they asked for."""
    clients = []
    for number in range(count):
        channel = await stack.enter_async_context(plaintext_channel(world.address))
        client = await stack.enter_async_context(DeltaClient(channel, f"node-{number}"))
        world.set(f"node-{number}", resource(SECRET, "a", "1"))
        await client.subscribe(SECRET, "a")
        await client.ack(await client.receive())
        clients.append(client)
    return clients


async def left_over(world: World, count: int) -> None:
    """Wait until so many streams are left."""
    await eventually(lambda: len(world.nodes.all_streams()) == count, f"{count} are left")


@pytest.mark.parametrize("seconds", [0.2, 60.0])
@pytest.mark.parametrize("count", [1, SLICES, 2 * SLICES + 1])
async def test_streams_end_in_slices_over_a_part_of_the_time(count: int, seconds: float) -> None:
    """No crowd comes back at once: oldest first, at a rate, or in half of the time if that ends."""
    clock = Steps()
    async with served() as world, AsyncExitStack() as stack:
        clients = await _clients(stack, world, count)
        drain = Drain(world.service, clock)
        draining = asyncio.create_task(drain.run([world.server], [], seconds))
        left, size = count, -(-count // SLICES)
        while left > size:
            left -= size
            await left_over(world, left)
            assert {live.node_id for live in world.nodes.all_streams()} == {
                each.node_id for each in clients[count - left :]
            }
            clock.go_on.set()
        async with asyncio.timeout(PATIENCE):
            await draining
            ended = Counter([(await client.status())[0] for client in clients])

    assert ended == {grpc.StatusCode.UNAVAILABLE: count}
    assert world.service.forced == 0
    assert len(clock.waits) == -(-count // size) - 1 < SLICES
    spread = min(seconds * SPREAD, count / STREAMS_PER_SECOND)
    assert sum(clock.waits) == pytest.approx(spread * len(clock.waits) / (len(clock.waits) + 1))
    assert len({round(each, 6) for each in clock.waits}) <= 1


class Busy(Steps):
    """A clock on which every wait lasts longer, since there is so much else to do."""

    def __init__(self, least: float, work: Callable[[], Awaitable[None]]) -> None:
        """Take how long each lasts at the least, and what is done meanwhile."""
        super().__init__()
        self.least, self.work = least, work

    async def sleep(self, seconds: float) -> None:
        """Wait longer."""
        self.waits.append(seconds)
        await self.work()
        self.seconds += max(seconds, self.least)


@pytest.mark.parametrize(("least", "forced"), [(1.0, 0), (9.0, 2 * SLICES - 2)])
async def test_a_process_that_is_busy_stops_in_time_all_the_same(least: float, forced: int) -> None:
    """Slices whose moment has passed wait for nothing, and those that are too late are cut."""
    count = 2 * SLICES
    async with served() as world, AsyncExitStack() as stack:
        clients = await _clients(stack, world, count)
        streams = world.service.open_streams
        clock = Busy(least, lambda: eventually(lambda: len(streams()) == count - 2, "2 are over"))
        async with asyncio.timeout(PATIENCE):
            await Drain(world.service, clock).run([world.server], [], 9.0)
            ended = Counter([(await client.status())[0] for client in clients])

    assert (len(clock.waits), clock.seconds) == (1, 1000.0 + least)
    assert world.service.forced == forced
    assert ended[grpc.StatusCode.UNAVAILABLE] >= count - forced


async def test_what_is_cut_has_a_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting thousands of calls takes a while too, so it does not begin when the time is over."""
    cuts: list[float] = []

    class Cut(Closing):
        async def cut(self, seconds: float) -> None:
            cuts.append(seconds)
            await super().cut(0)

    monkeypatch.setattr(drain, "Closing", Cut)
    monkeypatch.setattr(drain, "LAST_CALLS_SECONDS", 60.0)
    clock = Steps()
    for rate, kept in ((2.0, 1.0), (0.5, 2.0)):
        monkeypatch.setattr(drain, "CUTS_PER_SECOND", rate)
        async with served() as world, AsyncExitStack() as stack:
            await _clients(stack, world, 2)
            draining = asyncio.create_task(
                Drain(world.service, clock).run([world.server], [world.server], 8.0)
            )
            await left_over(world, 1)
            clock.go_on.set()
            async with asyncio.timeout(PATIENCE):
                await draining
        (pause,) = clock.waits
        assert cuts == pytest.approx([8.0 - pause - kept, 8.0 - pause])
        clock.waits.clear()
        cuts.clear()


async def test_who_is_still_served_gets_changes_until_its_turn() -> None:
    """A GOAWAY ends no stream: a client whose turn has not come is served as before."""
    clock = Steps()
    async with served() as world, AsyncExitStack() as stack:
        *_, last = await _clients(stack, world, 2)
        draining = asyncio.create_task(Drain(world.service, clock).run([world.server], [], 60.0))
        await left_over(world, 1)
        world.set("node-1", resource(SECRET, "a", "2"))
        response = await last.receive()
        await last.ack(response)
        clock.go_on.set()

        assert [each.resource.value for each in response.resources] == [b"2"]
        assert await last.status() == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is shutting down",
        )
        await draining


async def test_nobody_comes_in_while_it_drains() -> None:
    """The port is closed before the first stream ends, so that nobody comes back in vain."""
    clock = Steps()
    async with served() as world, AsyncExitStack() as stack:
        await _clients(stack, world, 2)
        draining = asyncio.create_task(Drain(world.service, clock).run([world.server], [], 60.0))
        await left_over(world, 1)
        host, _, port = world.address.partition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        clock.go_on.set()
        await draining


async def test_who_does_not_read_is_cut_and_counted() -> None:
    """The time is a bound: what is left by then is cut, and log and metric say how many."""
    counting = Counting()
    async with served() as world, DeltaClient(world.channel, "well") as well:
        world.nodes.observe(counting)
        world.set("well", resource(CLUSTER, "c"))
        await well.subscribe(CLUSTER)
        await well.receive()
        async with Stalled(world, counting):
            with capture_logs() as logs:
                async with asyncio.timeout(PATIENCE):
                    await Drain(world.service, SystemClock()).run([world.server], [], 0.6)

        assert await well.status() == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    (told,) = [each for each in logs if each["event"] == "streams.drained"]
    assert (told["log_level"], told["streams"], told["forced"]) == ("warning", 2, 1)
    assert 0.5 < told["seconds"] < PATIENCE
    samples = {
        sample.name: sample.value
        for metric in DiscoveryCollector(world.service).collect()
        for sample in metric.samples
    }
    assert samples["c2c_xds_streams_forced_total"] == 1
    await eventually(lambda: not world.service.open_streams(), "the stream that was cut is over")


async def test_operators_look_on_until_the_streams_are_over() -> None:
    """Who asks how far the drain is gets an answer: the private ports close last."""
    clock = Steps()
    async with served() as world, served() as private, AsyncExitStack() as stack:
        await _clients(stack, world, 2)
        draining = asyncio.create_task(
            Drain(world.service, clock).run([world.server], [private.server], 60.0)
        )
        await left_over(world, 1)
        host, _, port = private.address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        clock.go_on.set()
        await draining
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


async def test_a_call_that_is_no_stream_has_no_more_than_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where it could have a while longer after the last stream."""
    monkeypatch.setattr(drain, "LAST_CALLS_SECONDS", 10 * PATIENCE)
    slow = SlowCall()
    async with served() as world, slow.served() as server, slow.called() as calling:
        async with asyncio.timeout(PATIENCE):
            await Drain(world.service, SystemClock()).run([server], [], 0.0)

            with pytest.raises(grpc.aio.AioRpcError):
                await calling


async def test_who_came_and_went_before_does_not_stand_for_who_is_there() -> None:
    """That all streams were gone once does not mean that they are gone now."""
    async with served() as world:
        async with AsyncExitStack() as stack:
            await _clients(stack, world, 1)
        await left_over(world, 0)
        async with AsyncExitStack() as stack:
            await _clients(stack, world, 1)
            await world.service.all_gone(0.05)

            assert len(world.service.open_streams()) == 1


async def test_without_time_everything_is_cut_at_once() -> None:
    """A drain time of 0 waits for nobody."""
    clock = Steps()
    async with served() as world, AsyncExitStack() as stack:
        await _clients(stack, world, 3)
        async with asyncio.timeout(PATIENCE):
            await Drain(world.service, clock).run([world.server], [], 0.0)
        await left_over(world, 0)

    assert clock.waits == []
