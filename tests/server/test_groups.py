"""Groups: nodes that have the same since their clients say the same of themselves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from structlog.testing import capture_logs

from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.server.groups import Groups
from control_plane.server.library import ResourceServer
from control_plane.server.resources import snapshot_of
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.messages import Node, SotwRequest
from control_plane.xds.resource_type import CLUSTER, ResourceTypes
from control_plane.xds.stream import Stream
from tests.server.documents import documented
from tests.server.envoys import accepted, envoy_of
from tests.server.world import names, served
from tests.waiting import eventually
from tests.xds_client import DeltaClient, SotwClient, StreamEnded, plaintext_channel


def by_cluster(node: base_pb2.Node) -> str:
    """Return the cluster that a node says it is in."""
    cluster: str = node.cluster
    return cluster


@asynccontextmanager
async def grouped() -> AsyncIterator[tuple[ResourceServer, grpc.aio.Channel]]:
    """Start a server of groups and connect to it."""
    async with (
        ResourceServer(group_of=by_cluster) as server,
        plaintext_channel(server.address) as channel,
    ):
        yield server, channel


async def asked(client: DeltaClient, **node: object) -> Any:  # noqa: ANN401 - a response
    """Ask for all clusters as a node that says this of itself; return the answer, ACKed."""
    await client.send(type_url=CLUSTER, node={"id": client.node_id, **node})
    answer = await client.receive()
    await client.ack(answer)
    return answer


async def test_each_node_of_a_group_has_the_same() -> None:
    """Those that are there, and those that come; nodes of other groups have the default."""
    async with grouped() as (server, channel):
        server.set_resources("web", [cluster_pb2.Cluster(name="a")])
        server.set_resources("*", [cluster_pb2.Cluster(name="everybody's")])
        async with (
            DeltaClient(channel, "web-1") as one,
            DeltaClient(channel, "web-2") as two,
            DeltaClient(channel, "job-1") as other,
        ):
            assert names((await asked(one, cluster="web")).resources) == ["a"]
            assert names((await asked(other, cluster="job")).resources) == ["everybody's"]

            server.set_resources("web", [cluster_pb2.Cluster(name="b")])

            changed = await one.receive()
            assert names(changed.resources) == ["b"]
            assert list(changed.removed_resources) == ["a"]
            await one.ack(changed)
            assert names((await asked(two, cluster="web")).resources) == ["b"]
            assert await other.is_silent()
            await eventually(
                lambda: server.deliveries("web-1")[0].status is ConfigStatus.SYNCED, "it ACKed"
            )

            server.forget("web")

            for client in (one, two):
                assert names((await client.receive()).resources) == ["everybody's"]
            server.forget("web")
            server.forget("nobody")
            assert await one.is_silent()


async def test_a_real_envoy_has_what_its_group_should_have() -> None:
    """Its bootstrap says in which cluster it is."""
    async with ResourceServer(group_of=by_cluster) as server:
        server.set_resources("tests", [cluster_pb2.Cluster(name="a")])
        async with envoy_of(server, "DELTA_GRPC") as envoy:
            server.set_resources("tests", [cluster_pb2.Cluster(name="b")])
            await accepted(server)
            clusters = await envoy.admin("/clusters")
            assert "b::observability_name" in clusters
            assert "a::observability_name" not in clusters


async def test_the_documents_group_is_told_by_metadata_and_locality() -> None:
    """The document's example serves the nodes of one tier in one zone."""
    server = documented("group_of")["SERVER"]
    said = {"locality": {"zone": "eu-1"}, "metadata": {"tier": "web"}}
    async with (
        server,
        plaintext_channel(server.address) as channel,
        SotwClient(channel, "n") as client,
    ):
        await client.send(type_url=CLUSTER, node={"id": "n", **said})
        answer = await client.receive()

    found = [cluster_pb2.Cluster.FromString(each.value).name for each in answer.resources]
    assert sorted(found) == ["blog", "shop"]


async def test_the_group_that_was_said_last_counts() -> None:
    """Also for the streams that a node has already."""
    async with grouped() as (server, channel):
        server.set_resources("blue", [cluster_pb2.Cluster(name="b")])
        server.set_resources("green", [cluster_pb2.Cluster(name="g")])
        async with DeltaClient(channel, "n") as first, DeltaClient(channel, "n") as second:
            assert names((await asked(first, cluster="blue")).resources) == ["b"]
            assert names((await asked(second, cluster="green")).resources) == ["g"]
            moved = await first.receive()
            assert (names(moved.resources), list(moved.removed_resources)) == (["g"], ["b"])
            await first.ack(moved)

            server.set_resources("blue", [])

            assert await first.is_silent()


async def test_a_node_is_forgotten_with_its_last_stream() -> None:
    """Groups whose nodes have a new name at each start do not grow."""
    nodes = Nodes()
    groups = Groups(nodes, by_cluster)
    nodes.observe(groups)
    groups.set("web", snapshot_of([cluster_pb2.Cluster(name="a")]))
    async with served(nodes=nodes) as world:
        async with DeltaClient(world.channel, "n") as first:
            await asked(first, cluster="web")
            async with DeltaClient(world.channel, "n") as second:
                await asked(second, cluster="web")
            await eventually(lambda: len(nodes.streams("n")) == 1, "one is gone")
            assert nodes.snapshot("n") is not None
        await eventually(lambda: not nodes.streams("n"), "both are gone")

    assert nodes.snapshot("n") is None
    groups.set("web", snapshot_of([cluster_pb2.Cluster(name="b")]))
    assert nodes.snapshot("n") is None


async def test_a_group_that_is_no_text_is_told_at_once() -> None:
    """Otherwise its nodes would silently have what is for all others, or nothing."""

    def tier(node: base_pb2.Node) -> Any:  # noqa: ANN401 - of whatever type it is
        return node.metadata["tier"]

    async with (
        ResourceServer(group_of=tier) as server,
        plaintext_channel(server.address) as channel,
    ):
        server.set_resources("3", [cluster_pb2.Cluster(name="a")])
        server.set_resources("*", [cluster_pb2.Cluster(name="for the others")])
        with capture_logs() as logged:
            async with DeltaClient(channel, "n") as client:
                node = {"id": "n", "metadata": {"tier": 3}}
                await client.send(type_url=CLUSTER, node=node)
                assert (await client.status())[0] is grpc.StatusCode.INTERNAL

    (failed,) = [each for each in logged if each["event"] == "stream.failed"]
    assert "a str, not a float" in repr(failed["exc_info"])


async def test_a_node_whose_group_cannot_be_told_has_no_stream() -> None:
    """It is told that it is not its fault, the log says why, and the others go on."""

    def fails(node: base_pb2.Node) -> str:
        if node.id == "odd":
            raise KeyError("tier")
        return "web"

    async with (
        ResourceServer(group_of=fails) as server,
        plaintext_channel(server.address) as channel,
    ):
        server.set_resources("web", [cluster_pb2.Cluster(name="a")])
        async with DeltaClient(channel, "n") as well:
            with capture_logs() as logged:
                async with DeltaClient(channel, "odd") as odd:
                    await odd.subscribe(CLUSTER)
                    with pytest.raises(StreamEnded) as ended:
                        await odd.receive()
            assert names((await asked(well)).resources) == ["a"]

    assert ended.value.code is grpc.StatusCode.INTERNAL
    assert [each["event"] for each in logged if each["log_level"] == "error"] == ["stream.failed"]


def test_the_cost_of_what_does_not_change_does_not_follow_the_nodes() -> None:
    """What is set for a group is compared with what it had, once and not for each node."""

    def seconds(number: int) -> float:
        nodes = Nodes()
        groups = Groups(nodes, by_cluster)
        nodes.observe(groups)
        for each in range(number):
            stream = Stream(ResourceTypes.of())
            stream.identify(SotwRequest(CLUSTER, node=Node(f"n{each}", "web")))
            nodes.opened(LiveStream(each, stream, Variant.SOTW, "peer", (), datetime.now(UTC)))
        contents = [
            snapshot_of(cluster_pb2.Cluster(name=f"c{each}") for each in range(2_000))
            for _ in range(3)
        ]
        groups.set("web", contents[0])
        start = time.thread_time()
        for content in contents[1:]:
            groups.set("web", content)
        return time.thread_time() - start

    assert min(seconds(60) for _ in range(3)) < 5 * min(seconds(1) for _ in range(3))
