"""Clients that misbehave and code that fails: who notices, and who does not."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane.errors import PermissionDenied, Unauthenticated
from control_plane.nodes import LiveStream
from control_plane.server.access.admission import PeerContext
from control_plane.server.limits import ServerLimits
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Node, Reply
from control_plane.xds.resource_type import SECRET
from tests.server.world import Counting, is_served, names, resource, served
from tests.waiting import eventually
from tests.xds_client import DeltaClient, SotwClient


class Doorkeeper:
    """An admission that raises what it was told for one node, and lets in everybody else."""

    def __init__(self, node_id: str, error: Exception) -> None:
        """Refuse this node for this reason."""
        self._node_id = node_id
        self._error = error

    def admit(self, node: Node, context: PeerContext) -> None:
        """Let in or raise."""
        if node.id == self._node_id:
            raise self._error


class Known(Counting):
    """An observer that keeps the number of each stream of which it is told."""

    def __init__(self) -> None:
        """Know of none."""
        super().__init__()
        self.numbers: list[int] = []

    def opened(self, live: LiveStream) -> None:
        """Keep its number."""
        self.numbers.append(live.number)


@pytest.mark.parametrize("kind", [SotwClient, DeltaClient])
async def test_garbage_ends_its_stream_and_no_other(
    kind: type[SotwClient | DeltaClient],
) -> None:
    """Bytes that are no request end the stream with INVALID_ARGUMENT, also in the middle of it."""
    async with (
        served() as world,
        DeltaClient(world.channel, "well") as well,
        kind(world.channel, "ill") as ill,
    ):
        await well.subscribe(SECRET, "a")
        await ill.subscribe(SECRET, "a")
        await ill.send_raw(b"\xff\xfe")
        code, details = await ill.status()

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("2 bytes that are no envoy.service.discovery.v3.")
        assert await is_served(world, well, "1")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(Unauthenticated("who are you"), "UNAUTHENTICATED", id="nobody"),
        pytest.param(PermissionDenied("not as this node"), "PERMISSION_DENIED", id="somebody-else"),
    ],
)
async def test_who_is_not_admitted_learns_why_and_nothing_else(error: Exception, code: str) -> None:
    """The reason is the status; nothing is sent, and the node has no stream."""
    nodes_seen = Counting()
    async with (
        served(admission=Doorkeeper("ill", error)) as world,
        DeltaClient(world.channel, "well") as well,
        DeltaClient(world.channel, "ill") as ill,
    ):
        world.nodes.observe(nodes_seen)
        world.set("ill", resource(SECRET, "a"))
        await well.subscribe(SECRET, "a")
        with capture_logs() as lines:
            await ill.subscribe(SECRET, "a")
            status, details = await ill.status()

        assert (status.name, details) == (code, str(error))
        (line,) = lines
        assert (line["event"], line["node"], line["reason"]) == (
            "stream.refused",
            "ill",
            str(error),
        )
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert world.service.refused == {status: 1}
        assert "ill" not in nodes_seen.sent_to
        assert world.nodes.streams("ill") == ()
        assert await is_served(world, well, "1")


async def test_a_defect_ends_its_stream_and_tells_nothing() -> None:
    """The unforeseen is INTERNAL without detail, logged and counted, and stays in its stream."""
    async with (
        served() as world,
        DeltaClient(world.channel, "well") as well,
        DeltaClient(world.channel, "ill") as ill,
    ):
        world.nodes.observe(Counting(failing="ill"))
        await well.subscribe(SECRET, "a")
        with capture_logs() as lines:
            await ill.subscribe(SECRET, "a")
            status = await ill.status()

        assert status == (grpc.StatusCode.INTERNAL, "internal error")
        assert [line["event"] for line in lines] == ["stream.failed", "stream.failed"]
        assert all(line["node"] == "ill" for line in lines)
        assert world.service.ended[grpc.StatusCode.INTERNAL] == 1
        assert world.nodes.streams("ill") == ()
        assert await is_served(world, well, "1")


class Unsendable(Counting):
    """An observer that fails at the responses to one node."""

    def sent(self, live: LiveStream, reply: Reply) -> None:
        """Fail for one node."""
        super().sent(live, reply)
        if live.node_id == "ill":
            raise RuntimeError("a defect")


async def test_a_defect_at_a_response_ends_its_stream() -> None:
    """Whoever writes fails like whoever reads: it is told, and no other stream notices."""
    async with (
        served() as world,
        DeltaClient(world.channel, "well") as well,
        DeltaClient(world.channel, "ill") as ill,
    ):
        world.nodes.observe(Unsendable())
        world.set("ill", resource(SECRET, "a"))
        await well.subscribe(SECRET, "a")
        with capture_logs() as lines:
            await ill.subscribe(SECRET, "a")

            assert await ill.status() == (grpc.StatusCode.INTERNAL, "internal error")

        assert [line["event"] for line in lines] == ["stream.failed"]
        assert await is_served(world, well, "1")


async def test_who_is_not_admitted_learns_nothing_of_a_nodes_streams() -> None:
    """Not even that the node, which it is not, has as many as it may."""
    error = PermissionDenied("not as this node")
    limits = ServerLimits(streams_per_node=0)
    async with (
        served(admission=Doorkeeper("ill", error), limits=limits) as world,
        DeltaClient(world.channel, "ill") as ill,
    ):
        await ill.subscribe(SECRET, "a")

        assert await ill.status() == (grpc.StatusCode.PERMISSION_DENIED, str(error))


async def test_a_request_that_is_too_large_is_not_even_read() -> None:
    """A message over the limit ends its stream with RESOURCE_EXHAUSTED, and no other stream."""
    async with (
        served(limits=ServerLimits(request_octets=100_000)) as world,
        DeltaClient(world.channel, "well") as well,
        DeltaClient(world.channel, "ill") as ill,
    ):
        await well.subscribe(SECRET, "a")
        await ill.send_raw(bytes(200_000))
        code, _ = await ill.status()

        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await is_served(world, well, "1")


async def test_too_many_names_end_the_stream() -> None:
    """What a client can make the server remember is bounded, and the bound is in the status."""
    limits = ServerLimits(stream=StreamLimits(names=10))
    async with served(limits=limits) as world, DeltaClient(world.channel, "node-1") as client:
        await client.subscribe(SECRET, *(f"name-{n}" for n in range(11)))
        code, details = await client.status()

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "more than 10 resource names on a stream" in details


async def test_a_node_has_a_bounded_number_of_streams() -> None:
    """One more than allowed is refused; the others, and those of other nodes, go on."""
    limits = ServerLimits(streams_per_node=2)
    async with (
        served(limits=limits) as world,
        DeltaClient(world.channel, "well") as first,
        DeltaClient(world.channel, "well") as second,
        DeltaClient(world.channel, "well") as third,
        DeltaClient(world.channel, "other") as other,
    ):
        for client in (first, second):
            await client.subscribe(SECRET, "a")
        await eventually(lambda: len(world.nodes.streams("well")) == 2, "two streams are open")
        await third.subscribe(SECRET, "a")
        await other.subscribe(SECRET, "a")

        assert await third.status() == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "more than 2 streams of one node: 'well'",
        )
        assert await is_served(world, first, "1")
        assert names((await second.receive()).resources) == ["a"]
        world.set("other", resource(SECRET, "a"))
        assert names((await other.receive()).resources) == ["a"]


async def test_new_streams_come_at_a_bounded_rate() -> None:
    """A storm of new streams is told to come again, and those who are in notice nothing."""
    limits = ServerLimits(new_streams_per_second=0.001, new_streams_burst=1)
    known = Known()
    async with (
        served(limits=limits) as world,
        DeltaClient(world.channel, "well") as first,
    ):
        world.nodes.observe(known)
        await first.subscribe(SECRET, "a")
        await eventually(lambda: bool(world.nodes.streams("well")), "the first stream is open")
        async with DeltaClient(world.channel, "well") as second:
            await second.subscribe(SECRET, "a")

            assert await second.status() == (
                grpc.StatusCode.UNAVAILABLE,
                "too many new streams at once; come again in a moment",
            )

        assert await is_served(world, first, "1")
        assert known.numbers == [1]


async def test_a_node_that_comes_too_often_shuts_the_door_for_itself_only() -> None:
    """A client without a back-off meets its own bound, and leaves the one of all to others."""
    limits = ServerLimits(
        new_streams_per_second=0.001, new_streams_burst=5, new_streams_per_node_and_minute=3
    )
    async with served(limits=limits) as world:
        statuses = []
        for _ in range(20):
            async with DeltaClient(world.channel, "ill") as ill:
                await ill.subscribe(SECRET, "a")
                await ill.done_writing()
                statuses.append(await ill.status())
        async with DeltaClient(world.channel, "well") as well:
            await well.subscribe(SECRET, "a")

            assert await is_served(world, well, "1")

        refusal = "more than 3 new streams of one node in a minute; come again later"
        assert statuses == [
            *[(grpc.StatusCode.OK, "")] * 3,
            *[(grpc.StatusCode.UNAVAILABLE, refusal)] * 17,
        ]


async def test_a_client_that_floods_does_not_starve_others() -> None:
    """K1: a client that asks as fast as it can is one among many: others are answered meanwhile."""
    async with (
        served() as world,
        DeltaClient(world.channel, "well") as well,
        DeltaClient(world.channel, "ill") as ill,
    ):
        await well.subscribe(SECRET, "a")
        flood = asyncio.create_task(_flood(ill))
        for number in range(20):
            assert await is_served(world, well, str(number))
        assert not flood.done()
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)


async def _flood(client: DeltaClient) -> None:
    while True:
        await client.subscribe(SECRET, "b")
