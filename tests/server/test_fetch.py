"""Polled calls over a real connection: what they are answered with, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.clock import SystemClock
from control_plane.errors import PermissionDenied
from control_plane.server.discovery.methods import SERVICES, DiscoveryMethods
from control_plane.server.limits import ServerLimits
from control_plane.server.metrics.instruments import StreamInstruments
from control_plane.server.metrics.observers import StreamMetrics
from control_plane.xds.events import Connected, Nacked, Subscribed
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import ErrorDetail, Node
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER, SECRET
from tests.server.test_faults import Doorkeeper
from tests.server.watching import Watcher
from tests.server.world import Counting, World, resource, served
from tests.waiting import eventually
from tests.xds_client import PATIENCE, Response

POLLED = [each for each in SERVICES if each.polled is not None]
OF = {each.only: each for each in POLLED}
LOCATOR = {"name": "a", "dynamic_parameters": {"env": "prod"}}


async def fetch(world: World, methods: DiscoveryMethods, **fields: object) -> Response:
    """Poll a service with these fields, as node-1 if they do not say who asks."""
    raw = discovery_pb2.DiscoveryRequest(**{"node": {"id": "node-1"}, **fields})
    return await fetch_raw(world, methods, raw.SerializeToString())


async def fetch_raw(world: World, methods: DiscoveryMethods, raw: bytes) -> Response:
    """Poll a service with these bytes."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    call = world.channel.unary_unary(f"/{methods.service}/{methods.polled}")
    return discovery_pb2.DiscoveryResponse.FromString(await call(raw, timeout=PATIENCE))


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:  # noqa: ANN401 - whatever is awaited
    """Return the status with which a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def tasks_of_polls() -> list[str]:
    """Return what is under way in this process for polls."""
    names = [getattr(each.get_coro(), "__qualname__", "") for each in asyncio.all_tasks()]
    return [name for name in names if "Polling" in name]


async def waits(world: World, count: int = 1) -> None:
    """Return once that many polls of node-1 wait."""
    await eventually(lambda: len(world.nodes.streams("node-1")) == count, "a poll waits")


@pytest.mark.parametrize("methods", POLLED, ids=lambda each: each.noun)
async def test_each_fetch_method_answers_a_request(methods: DiscoveryMethods) -> None:
    """V2: Fetch... of every service answers with what was named, or else with all of its type."""
    assert methods.only is not None
    one, two = (resource(methods.only, name, name) for name in "ab")
    async with served() as world:
        world.set("node-1", one, two)
        everything = await fetch(world, methods)
        named = await fetch(world, methods, resource_names=["b"], type_url=methods.only)

    assert [(each.type_url, each.value) for each in everything.resources] == [
        (methods.only, b"a"),
        (methods.only, b"b"),
    ]
    assert [each.value for each in named.resources] == [b"b"]
    assert everything.type_url == named.type_url == methods.only
    assert everything.version_info != named.version_info
    assert everything.nonce
    assert everything.control_plane.identifier == "c2c-control-plane"


async def test_virtual_hosts_and_aggregated_resources_are_not_polled() -> None:
    """V2, V3: none of these services has such a method, so gRPC does not know it."""
    nouns = {"AggregatedResources", "LocalityEndpoints", "VirtualHosts"}
    not_polled = [each for each in SERVICES if each.noun in nouns]
    assert len(not_polled) == len(nouns)
    async with served() as world:
        for methods in not_polled:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            call = world.channel.unary_unary(f"/{methods.service}/Fetch{methods.noun}")
            code, _ = await refused(call(b""))
            assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_who_has_the_version_is_answered_when_it_changes() -> None:
    """V5: a poll that states the version waits for another; over gRPC there is no 304."""
    async with served() as world:
        world.set("node-1", resource(CLUSTER, "c", "1"), resource(LISTENER, "l", "1"))
        first = await fetch(world, OF[CLUSTER])
        second = asyncio.create_task(
            fetch(world, OF[CLUSTER], version_info=first.version_info, response_nonce=first.nonce)
        )
        await waits(world)
        world.set("node-1", resource(CLUSTER, "c", "1"), resource(LISTENER, "l", "2"))
        world.set("node-1", resource(CLUSTER, "c", "2"), resource(LISTENER, "l", "2"))

        assert [each.value for each in (await second).resources] == [b"2"]
        assert world.nodes.streams("node-1") == ()
        assert world.service.ended == {grpc.StatusCode.OK: 2}


async def test_who_has_other_names_is_answered_at_once() -> None:
    """W2: endpoints that are asked for anew are sent though nothing changed."""
    async with served() as world:
        world.set("node-1", resource(ENDPOINT, "a"), resource(ENDPOINT, "b"))
        one = await fetch(world, OF[ENDPOINT], resource_names=["a"])
        both = await fetch(
            world, OF[ENDPOINT], resource_names=["a", "b"], version_info=one.version_info
        )

    assert len(both.resources) == 2


async def test_nothing_new_for_a_while_is_said() -> None:
    """V5: a poll ends after the time that it may wait, with a sentence and no empty response."""
    async with served(limits=ServerLimits(poll_seconds=0.1)) as world:
        nobody_knows = await refused(fetch(world, OF[CLUSTER]))
        world.set("node-1", resource(CLUSTER, "c"))
        missing = await refused(fetch(world, OF[SECRET], resource_names=["s"]))

    assert nobody_knows == missing
    assert missing == (
        grpc.StatusCode.UNAVAILABLE,
        "nothing within 0.1 seconds that the client does not have: ask again",
    )


async def test_who_takes_errors_is_told_why_a_name_is_not_there() -> None:
    """V2, E1: at once, and then it waits for another answer."""
    node = {"id": "node-1", "client_features": ["supports-resource-error-unwrapping"]}
    async with served() as world:
        world.set("node-1", resource(CLUSTER, "c"))
        told = await fetch(world, OF[SECRET], node=node, resource_names=["s"])
        again = asyncio.create_task(
            fetch(
                world, OF[SECRET], node=node, resource_names=["s"], version_info=told.version_info
            )
        )
        await waits(world)
        world.set("node-1", resource(SECRET, "s"))
        there = await again

    assert not told.resources
    (error,) = told.resource_errors
    assert (error.resource_name.name, error.error_detail.code) == ("s", 5)
    assert len(there.resources) == 1
    assert not there.resource_errors


async def test_what_springs_into_existence_is_the_answer() -> None:
    """W8: a poll for a secret that is not there yet is answered once it is."""
    async with served() as world:
        polled = asyncio.create_task(fetch(world, OF[SECRET], resource_names=["s"]))
        await waits(world)
        world.set("node-1", resource(SECRET, "s", "1"))

        assert [each.value for each in (await polled).resources] == [b"1"]


async def test_refusal_is_told_to_observers() -> None:
    """A4, A7: error_detail and the nonce of the content are a NACK, and wait for other content."""
    async with served() as world:
        watcher = Watcher()
        world.nodes.observe(watcher)
        secret = resource(SECRET, "s", "1")
        world.set("node-1", secret)
        first = await fetch(world, OF[SECRET])
        again = asyncio.create_task(
            fetch(
                world,
                OF[SECRET],
                response_nonce=first.nonce,
                error_detail={"code": 13, "message": "no such key"},
            )
        )
        await waits(world)
        world.set("node-1", resource(SECRET, "s", "2"))
        answer = await again

    assert [each.value for each in answer.resources] == [b"2"]
    assert [each.nonce for each in watcher.replies] == [first.nonce, answer.nonce]
    asked = [Connected(Node("node-1")), Subscribed(SECRET, frozenset({"*"}))]
    error = ErrorDetail(13, "no such key")
    nacked = Nacked(SECRET, first.nonce, {"s": secret.version}, error)
    assert watcher.events == [*asked, *asked, nacked]


async def test_refusal_of_something_else_is_measured_without_a_time() -> None:
    """A poll may refuse what was answered to an earlier one; how long that took nobody knows."""
    registry, clock = CollectorRegistry(), SystemClock()
    async with served(clock=clock) as world:
        world.nodes.observe(StreamMetrics(StreamInstruments(registry), clock))
        world.set("node-1", resource(SECRET, "s", "1"))
        error = {"code": 13, "message": "no such key"}
        await fetch(world, OF[SECRET], response_nonce="of-yesterday", error_detail=error)

    assert registry.get_sample_value("c2c_xds_nacks_total", {"type": "SDS"}) == 1
    seconds = registry.get_sample_value("c2c_xds_push_to_ack_seconds_sum", {"type": "SDS"})
    assert seconds == 0


async def test_admission_is_that_of_a_stream() -> None:
    """V2: who may not open a stream may not poll either, and the log has it."""
    door = Doorkeeper("node-1", PermissionDenied("not you"))
    async with served(admission=door) as world:
        world.set("node-1", resource(SECRET, "s"))
        with capture_logs() as lines:
            told = await refused(fetch(world, OF[SECRET]))

        assert told == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        assert [each["event"] for each in lines] == [log_events.STREAM_REFUSED]
        assert world.service.refused == {grpc.StatusCode.PERMISSION_DENIED: 1}


async def test_limits_are_those_of_a_stream() -> None:
    """K1: polls that wait count as streams of their node, and each as one that came."""
    limits = ServerLimits(
        stream=StreamLimits(names=1), streams_per_node=1, new_streams_per_node_and_minute=3
    )
    async with served(limits=limits) as world:
        world.set("node-1", resource(SECRET, "s"))
        many = await refused(fetch(world, OF[SECRET], resource_names=["a", "b"]))
        waiting = asyncio.create_task(fetch(world, OF[SECRET], resource_names=["a"]))
        await waits(world)
        second = await refused(fetch(world, OF[SECRET]))
        world.set("node-1", resource(SECRET, "a"))
        await waiting
        await fetch(world, OF[SECRET])
        too_often = await refused(fetch(world, OF[SECRET]))

    assert many[0] is second[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert second[1] == "more than 1 streams of one node: 'node-1'"
    assert too_often[0] is grpc.StatusCode.UNAVAILABLE
    assert "more than 3 new streams" in too_often[1]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"node": None}, "the first request of a stream must carry node.id"),
        ({"type_url": CLUSTER}, f"this service serves {SECRET} only, not '{CLUSTER}'"),
        (
            {"resource_names": ["a"], "resource_locators": [LOCATOR]},
            "two sets of dynamic parameters for 'a' on one stream",
        ),
    ],
    ids=["no node", "another type", "locators"],
)
async def test_bad_request_has_a_sentence(fields: dict[str, object], sentence: str) -> None:
    """V4: what a stream would be ended for, a poll is refused for, with the same words."""
    async with served() as world:
        code, details = await refused(fetch(world, OF[SECRET], **fields))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(sentence)


async def test_garbage_is_refused() -> None:
    """Bytes that are no request get INVALID_ARGUMENT, and the next poll is answered."""
    async with served() as world:
        world.set("node-1", resource(SECRET, "s"))
        garbage = await refused(fetch_raw(world, OF[SECRET], b"\xff\xfe"))

        assert garbage == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "2 bytes that are no envoy.service.discovery.v3.DiscoveryRequest",
        )
        assert (await fetch(world, OF[SECRET])).resources


async def test_client_that_goes_leaves_nothing() -> None:
    """A poll whose client gives up is no stream of its node any more."""
    async with served() as world:
        polled = asyncio.create_task(fetch(world, OF[SECRET]))
        await waits(world)
        polled.cancel()
        await waits(world, 0)

        assert world.service.open_streams() == ()
        await eventually(lambda: not tasks_of_polls(), "nothing waits for an answer any more")


async def test_polls_that_wait_end_with_the_server() -> None:
    """K2: a server that stops tells who waits to look for another one, and lets nobody in."""
    async with served() as world:
        polled = asyncio.create_task(fetch(world, OF[SECRET]))
        await waits(world)
        world.service.shut_down()
        stopped = grpc.StatusCode.UNAVAILABLE, "the server is shutting down"

        assert await refused(polled) == stopped
        await eventually(lambda: not tasks_of_polls(), "nothing waits for an answer any more")
        assert await refused(fetch(world, OF[SECRET])) == stopped


async def test_defect_ends_one_poll() -> None:
    """An observer that fails costs the poll at which it failed, and tells its client nothing."""
    async with served() as world:
        world.nodes.observe(Counting(failing="node-1"))
        world.set("node-1", resource(SECRET, "s"))
        world.set("well", resource(SECRET, "s"))
        with capture_logs() as lines:
            told = await refused(fetch(world, OF[SECRET]))

        assert told == (grpc.StatusCode.INTERNAL, "internal error")
        assert {each["event"] for each in lines} == {log_events.STREAM_FAILED}
        assert (await fetch(world, OF[SECRET], node={"id": "well"})).resources
