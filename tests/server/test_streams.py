"""Streams over a real connection: who they belong to, and how each side ends them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane.errors import PermissionDenied
from control_plane.server.limits import ServerLimits
from control_plane.server.resources import snapshot_of
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.server.world import World, names, resource, served
from tests.unit.server_security.still_clock import NOON, StillClock
from tests.waiting import eventually
from tests.xds_client import DeltaClient, SotwClient, plaintext_channel


async def test_two_streams_of_one_node_are_both_served() -> None:
    """A reconnect may overlap the old stream: both get changes, and each has its own state (V6)."""
    async with (
        served() as world,
        DeltaClient(world.channel, "node-1") as old,
        SotwClient(world.channel, "node-1") as new,
    ):
        world.set("node-1", resource(SECRET, "a", "1"))
        for client in (old, new):
            await client.subscribe(SECRET, "a")
            await client.ack(await client.receive())
        world.set("node-1", resource(SECRET, "a", "2"))
        of_old, of_new = await old.receive(), await new.receive()

        assert [each.resource.value for each in of_old.resources] == [b"2"]
        assert [each.value for each in of_new.resources] == [b"2"]
        assert len(world.nodes.streams("node-1")) == 2

        await old.done_writing()
        await old.status()
        await new.ack(of_new)
        world.set("node-1", resource(SECRET, "a", "3"))

        assert [each.value for each in (await new.receive()).resources] == [b"3"]
        assert len(world.nodes.streams("node-1")) == 1


async def test_a_nonce_of_an_earlier_stream_answers_nothing() -> None:
    """A1: a client that carries one over must not accept what it has not read."""
    async with served() as world:
        world.set("node-1", resource(SECRET, "a", "1"))
        async with SotwClient(world.channel, "node-1") as old:
            await old.subscribe(SECRET, "a")
            earlier = await old.receive()
        async with SotwClient(world.channel, "node-1") as new:
            await new.subscribe(SECRET, "a")
            answer = await new.receive()
            world.set("node-1", resource(SECRET, "a", "2"))
            await new.send(type_url=SECRET, resource_names=["a"], response_nonce=earlier.nonce)

            assert answer.nonce != earlier.nonce
            assert await new.is_silent()


async def test_a_node_gets_what_is_its_own() -> None:
    """E2: another node's resources look as if they did not exist, and the stream goes on."""
    async with (
        served() as world,
        DeltaClient(world.channel, "node-1") as one,
        DeltaClient(world.channel, "node-2") as two,
    ):
        world.set("node-1", resource(SECRET, "of-1"))
        world.set("node-2", resource(SECRET, "of-2"))
        for client in (one, two):
            await client.subscribe(SECRET, "of-1")

        assert names((await one.receive()).resources) == ["of-1"]
        answer = await two.receive()
        assert names(answer.resources) == []
        assert list(answer.removed_resources) == ["of-1"]

        await two.ack(answer)
        await two.subscribe(SECRET, "of-2")

        assert names((await two.receive()).resources) == ["of-2"]


async def test_an_error_does_not_tell_what_belongs_to_somebody_else() -> None:
    """E1, E2: it is the same for that and for what nobody has, so names cannot be found out."""
    node = {"id": "node-2", "client_features": ["supports-resource-error-unwrapping"]}
    async with served() as world, DeltaClient(world.channel, "node-2") as client:
        world.set("node-1", resource(SECRET, "of-1"))
        world.set("node-2", resource(SECRET, "of-2"))
        await client.send(type_url=SECRET, resource_names_subscribe=["of-1"], node=node)
        of_another = await client.receive()
        await client.ack(of_another)
        await client.subscribe(SECRET, "nobodys")
        of_nobody = await client.receive()

    assert [each.resource_name.name for each in of_another.resource_errors] == ["of-1"]
    assert [each.error_detail for each in of_another.resource_errors] == [
        each.error_detail for each in of_nobody.resource_errors
    ]


async def test_a_node_that_nobody_planned_is_sent_nothing() -> None:
    """As long as it is not known what a node should have, it is not told that there is nothing."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        await client.subscribe(CLUSTER)
        await client.subscribe(SECRET, "a")

        assert await client.is_silent()

        world.set("node-1", resource(CLUSTER, "c"))

        assert {(await client.receive()).type_url for _ in range(2)} == {CLUSTER, SECRET}


async def test_a_node_from_which_it_is_withheld_is_sent_nothing() -> None:
    """Such a node is sent what is set for it from then on, and never what was set before."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        world.set("node-1", resource(SECRET, "a", "old"))
        world.nodes.withhold("node-1")
        await client.subscribe(SECRET, "a")

        assert await client.is_silent()

        world.set("node-1", resource(SECRET, "a", "new"))

        assert [e.resource.value for e in (await client.receive()).resources] == [b"new"]


async def test_every_response_carries_the_servers_name() -> None:
    """ControlPlane.identifier is set, so that Envoy shows who configured it (N5)."""
    async with served() as world, SotwClient(world.channel, "node-1") as client:
        world.set("node-1", resource(CLUSTER, "c"), resource(LISTENER, "l"))
        await client.subscribe(CLUSTER)
        await client.subscribe(LISTENER)
        cluster = await client.receive()
        await client.ack(cluster)
        listener = await client.receive()

        assert cluster.control_plane.identifier == "c2c-control-plane"
        assert listener.control_plane.identifier == "c2c-control-plane"


@pytest.mark.parametrize("kind", [SotwClient, DeltaClient])
async def test_later_requests_need_no_node(kind: type[SotwClient | DeltaClient]) -> None:
    """Only the first request carries the node, and it is remembered (N1)."""
    async with served() as world, kind(world.channel, "node-1") as client:
        world.set("node-1", resource(CLUSTER, "c"), resource(SECRET, "a"))
        await client.subscribe(CLUSTER)
        await client.ack(await client.receive())
        await client.subscribe(SECRET, "a")

        assert (await client.receive()).type_url == SECRET


async def test_a_stream_cannot_become_another_node() -> None:
    """Another node.id on the stream ends it with INVALID_ARGUMENT (N2)."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        world.set("node-2", resource(SECRET, "a"))
        await client.subscribe(CLUSTER)
        await client.send(type_url=SECRET, resource_names_subscribe=["a"], node={"id": "node-2"})
        code, details = await client.status()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "node.id changed on the stream: 'node-1' became 'node-2'"


async def test_a_stream_needs_a_node() -> None:
    """The first request without a node ends the stream with INVALID_ARGUMENT (N1)."""
    async with served() as world, DeltaClient(world.channel, "") as client:
        await client.subscribe(CLUSTER)

        assert await client.status() == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "the first request of a stream must carry node.id",
        )


async def test_a_half_closed_stream_gets_what_it_is_owed_and_ends_with_ok() -> None:
    """A client that sends one request and closes its side, as grpcurl does, sees the answer."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        world.set("node-1", resource(CLUSTER, "c"))
        await client.subscribe(CLUSTER)
        await client.done_writing()

        assert names((await client.receive()).resources) == ["c"]
        assert await client.status() == (grpc.StatusCode.OK, "")
        await eventually(lambda: not world.nodes.all_streams(), "the stream is forgotten")


async def test_a_stream_that_never_asks_is_closed() -> None:
    """Whoever opens a stream and says nothing does not hold it for ever."""
    limits = ServerLimits(first_request_seconds=0.05)
    async with served(limits=limits) as world, DeltaClient(world.channel, "node-1") as client:
        assert await client.status() == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "no request within 0.05 seconds of opening the stream",
        )


async def test_a_stream_can_be_ended_from_outside() -> None:
    """Whoever is responsible for a node ends its streams, with a reason the client is told.

    A stream that was let in before does not count as refused.
    """
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        world.set("node-1", resource(CLUSTER, "c"))
        await client.subscribe(CLUSTER)
        await client.receive()
        (live,) = world.nodes.streams("node-1")
        with capture_logs() as lines:
            live.end(PermissionDenied("this instance was removed"))

            assert await client.status() == (
                grpc.StatusCode.PERMISSION_DENIED,
                "this instance was removed",
            )
        assert world.nodes.streams("node-1") == ()
        assert world.service.ended == {grpc.StatusCode.PERMISSION_DENIED: 1}
        assert (world.service.refused, lines) == ({}, [])


async def test_a_shutdown_ends_every_stream_with_unavailable() -> None:
    """K2: clients are told to come again, and those that come meanwhile are told the same."""
    async with (
        served() as world,
        DeltaClient(world.channel, "node-1") as open_before,
        DeltaClient(world.channel, "node-2") as silent,
    ):
        await open_before.subscribe(CLUSTER)
        await eventually(lambda: len(world.service.open_streams()) == 2, "both streams are open")
        world.service.shut_down()
        async with DeltaClient(world.channel, "node-1") as opened_after:
            for client in (open_before, silent, opened_after):
                assert await client.status() == (
                    grpc.StatusCode.UNAVAILABLE,
                    "the server is shutting down",
                )


async def test_what_was_refused_is_tried_again_by_itself() -> None:
    """A refused cluster is sent again once its pause is over, with no request or change (A7)."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        world.set("node-1", resource(CLUSTER, "c"))
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "port 80 is taken")

        assert await client.is_silent()
        assert names((await client.receive()).resources) == ["c"]


async def test_a_refused_secret_stays_refused_on_a_new_stream() -> None:
    """What a node refused is not sent to it on its next stream either, until it changes (A7)."""
    async with served() as world:
        world.set("node-1", resource(SECRET, "a", "bad"))
        async with DeltaClient(world.channel, "node-1") as client:
            await client.subscribe(SECRET, "a")
            await client.nack(await client.receive(), "no key")
            await client.done_writing()
            await client.status()
        async with DeltaClient(world.channel, "node-1") as client:
            await client.subscribe(SECRET, "a")

            assert await client.is_silent()

            world.set("node-1", resource(SECRET, "a", "good"))

            assert [e.resource.value for e in (await client.receive()).resources] == [b"good"]


async def test_a_stream_knows_where_its_client_is() -> None:
    """The peer's address is kept for those who list streams."""
    async with served() as world, DeltaClient(world.channel, "node-1") as client:
        await client.subscribe(CLUSTER)
        await eventually(lambda: bool(world.nodes.streams("node-1")), "the stream is known")
        (live,) = world.nodes.streams("node-1")

        assert live.peer.startswith("ipv4:127.0.0.1:")
        assert live.identities == ()


async def test_a_stream_has_a_number_and_a_moment_of_its_own() -> None:
    """Streams are told apart, also two of one node, and since when each is open (V6)."""
    clock = StillClock()
    async with served(clock=clock) as world, AsyncExitStack() as stack:
        for count in range(1, 4):
            client = await stack.enter_async_context(DeltaClient(world.channel, "node-1"))
            await client.subscribe(CLUSTER)
            await eventually(partial(_has_streams, world, count), "it is open")
            clock.time += timedelta(minutes=1)
        streams = world.nodes.streams("node-1")

        assert [live.number for live in streams] == [1, 2, 3]
        assert [live.opened_at for live in streams] == [
            NOON + timedelta(minutes=number) for number in range(3)
        ]


def _has_streams(world: World, count: int) -> bool:
    return len(world.nodes.streams("node-1")) == count


async def test_a_thousand_clients_come_and_go_without_a_trace() -> None:
    """Whichever way a client leaves, no task, no stream and no node of it stays."""
    limits = ServerLimits(new_streams_burst=2000)
    async with served(limits=limits) as world:
        world.nodes.set_default(snapshot_of([resource(CLUSTER, "c")]))
        before = len(asyncio.all_tasks())
        for round_ in range(100):
            async with plaintext_channel(world.address) as channel:
                await asyncio.gather(*(_come_and_go(channel, round_, n) for n in range(10)))

        await eventually(lambda: len(asyncio.all_tasks()) <= before, "every task is gone")
        assert world.nodes.all_streams() == ()
        assert world.nodes._by_id == {}
        assert world.service.open_streams() == ()
        ended = dict(world.service.ended)
        # Who leaves at once may be gone before gRPC lets the server begin with its stream.
        assert 0 < ended.pop(grpc.StatusCode.CANCELLED) <= 400
        assert ended == {grpc.StatusCode.OK: 400, grpc.StatusCode.INVALID_ARGUMENT: 200}


async def _come_and_go(channel: grpc.aio.Channel, round_: int, number: int) -> None:
    """Open a stream and leave it in one of five ways."""
    async with DeltaClient(channel, f"node-{round_}-{number}") as client:
        match number % 5:
            case 0:
                await client.subscribe(CLUSTER)
            case 1:
                await client.subscribe(CLUSTER)
                await client.done_writing()
                await client.status()
            case 2:
                await client.send_raw(b"\xff")
                await client.status()
            case 3:
                await client.done_writing()
                await client.status()
            case _:
                await client.subscribe(CLUSTER)
                await asyncio.sleep(0)
