"""Variants of resources over real connections: streams of both kinds, polls, and who has which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer, resource_of
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.resource_type import CLUSTER, SECRET
from tests.server.documents import documented
from tests.server.envoys import NODE, accepted, envoy_of
from tests.server.test_client_status import asked
from tests.server.test_fetch import OF
from tests.server.test_rest import client as http_client
from tests.server.test_rest import post
from tests.server.world import resource, served
from tests.waiting import eventually
from tests.xds_client import PATIENCE, DeltaClient, Response, SotwClient, plaintext_channel


def locator(name: str = "shop", **parameters: str) -> dict[str, Any]:
    """Return a name with parameters."""
    return {"name": name, "dynamic_parameters": parameters}


PROD, TEST = locator(env="prod"), locator(env="test")


@asynccontextmanager
async def example() -> AsyncIterator[tuple[dict[str, Any], grpc.aio.Channel]]:
    """Serve what the document's example sets; yield what it defines, and a connection."""
    defined = documented("DynamicParameterConstraints")
    async with defined["SERVER"] as server, plaintext_channel(server.address) as channel:
        yield defined, channel


def content(packed: Any) -> Message:  # noqa: ANN401 - made at run time, without stubs
    """Return the cluster in an ``Any``."""
    message: Message = Cluster()
    assert packed.Unpack(message)
    return message


def told(packed: Any) -> Any:  # noqa: ANN401 - likewise
    """Return the message that a resource of state of the world is wrapped in."""
    message = discovery_pb2.Resource()
    assert packed.Unpack(message)
    return message


def constraints(message: Any) -> Any:  # noqa: ANN401 - likewise
    """Return whose a resource of a name is that a client is told."""
    assert not message.name
    assert message.resource_name.name == "shop"
    return message.resource_name.dynamic_parameter_constraints


async def test_the_documents_variants_reach_who_asks_by_locators() -> None:
    """E3: in delta as in state of the world, with the constraints beside the name."""
    async with example() as (defined, channel):
        for asked_for, cluster, whose in (
            (PROD, defined["PATIENT"], defined["PROD"]),
            (TEST, defined["BRISK"], defined["OTHERS"]),
        ):
            async with DeltaClient(channel, "node-1") as delta:
                await delta.send(type_url=CLUSTER, resource_locators_subscribe=[asked_for])
                (entry,) = (await delta.receive()).resources
            async with SotwClient(channel, "node-1") as sotw:
                await sotw.send(type_url=CLUSTER, resource_locators=[asked_for])
                (packed,) = (await sotw.receive()).resources

            assert content(entry.resource) == cluster
            assert constraints(entry) == whose
            assert entry == told(packed)


async def test_the_documents_variants_reach_who_asks_by_names() -> None:
    """E3: who sends no parameters is one of the others, and is told a name."""
    async with example() as (defined, channel):
        async with DeltaClient(channel, "node-1") as delta:
            await delta.subscribe(CLUSTER)
            (entry,) = (await delta.receive()).resources
        async with SotwClient(channel, "node-1") as sotw:
            await sotw.subscribe(CLUSTER, "shop")
            (packed,) = (await sotw.receive()).resources

    assert (entry.name, entry.HasField("resource_name")) == ("shop", False)
    assert content(entry.resource) == content(packed) == defined["BRISK"]


async def test_a_variant_is_replaced_in_one_response() -> None:
    """E3: when its clients are divided anew, and when the client has other parameters."""
    async with example() as (defined, channel), DeltaClient(channel, "node-1") as client:
        await client.send(type_url=CLUSTER, resource_locators_subscribe=[PROD])
        await client.ack(await client.receive())
        await client.send(
            type_url=CLUSTER,
            resource_locators_subscribe=[TEST],
            resource_locators_unsubscribe=[PROD],
        )
        turned = await client.receive()
        await client.ack(turned)
        defined["SERVER"].set_resources("node-1", [defined["PATIENT"]])
        united = await client.receive()
        await client.ack(united)
        defined["SERVER"].set_resources("node-1", [])
        gone = await client.receive()

    assert constraints(turned.resources[0]) == defined["OTHERS"]
    (before,) = turned.removed_resource_names
    assert (before.name, before.dynamic_parameter_constraints) == ("shop", defined["PROD"])
    assert united.resources[0].name == "shop"
    (before,) = united.removed_resource_names
    assert before.dynamic_parameter_constraints == defined["OTHERS"]
    assert not turned.removed_resources
    assert not united.removed_resources
    assert list(gone.removed_resources) == ["shop"]
    assert not gone.removed_resource_names


async def test_two_sets_for_a_name_end_the_stream() -> None:
    """E3: with a sentence that says what a caching proxy does."""
    sentence = "two sets of dynamic parameters for 'shop' on one stream: open one for each set"
    async with example() as (_, channel):
        async with SotwClient(channel, "node-1") as sotw:
            await sotw.send(type_url=CLUSTER, resource_locators=[PROD, TEST])

            assert await sotw.status() == (grpc.StatusCode.INVALID_ARGUMENT, sentence)

        async with DeltaClient(channel, "node-1") as delta:
            await delta.send(type_url=CLUSTER, resource_locators_subscribe=[PROD])
            await delta.receive()
            await delta.send(type_url=CLUSTER, resource_locators_subscribe=[TEST])

            assert await delta.status() == (grpc.StatusCode.INVALID_ARGUMENT, sentence)


async def test_where_nothing_has_variants_a_locator_is_a_name() -> None:
    """E3: and one alone is no wildcard; giving it up by its parameters gives it up."""
    async with served() as world:
        world.set("node-1", resource(SECRET, "a", "1"), resource(SECRET, "b"))
        async with DeltaClient(world.channel, "node-1") as delta:
            asked_for = [locator("a", env="prod")]
            await delta.send(type_url=SECRET, resource_locators_subscribe=asked_for)
            response = await delta.receive()
            await delta.ack(response)
            await delta.send(
                type_url=SECRET,
                resource_locators_unsubscribe=asked_for,
                resource_names_subscribe=["b"],
            )
            # Once this is answered, the server knows what was given up with it.
            await delta.ack(await delta.receive())
            world.set("node-1", resource(SECRET, "a", "2"), resource(SECRET, "b"))

            assert [each.name for each in response.resources] == ["a"]
            assert await delta.is_silent()

        async with SotwClient(world.channel, "node-1") as sotw:
            await sotw.send(type_url=SECRET, resource_locators=asked_for)

            assert [each.value for each in (await sotw.receive()).resources] == [b"2"]


async def fetch(channel: grpc.aio.Channel, **fields: object) -> Response:
    """Poll clusters as node-1."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    call = channel.unary_unary(f"/{OF[CLUSTER].service}/{OF[CLUSTER].polled}")
    request = discovery_pb2.DiscoveryRequest(node={"id": "node-1"}, **fields)
    answer = await call(request.SerializeToString(), timeout=PATIENCE)
    return discovery_pb2.DiscoveryResponse.FromString(answer)


async def test_polls_have_parameters() -> None:
    """E3, V2, V5: over gRPC and REST-JSON, each with the version of the variant."""
    async with example() as (defined, channel):
        prod = await fetch(channel, resource_locators=[PROD])
        test = await fetch(channel, resource_locators=[TEST], version_info=prod.version_info)
        async with defined["SERVER"].rest() as address, http_client(address) as connection:
            asked_for = [locator(env="prod")]
            rest = (await post(connection, resource_locators=asked_for)).response
            again = await post(
                connection, resource_locators=asked_for, version_info=rest.version_info
            )
            named = (await post(connection, resource_names=["shop"])).response

    assert prod.resources == rest.resources
    assert prod.version_info == rest.version_info != test.version_info
    assert content(told(prod.resources[0]).resource) == defined["PATIENT"]
    assert constraints(told(test.resources[0])) == defined["OTHERS"]
    assert content(named.resources[0]) == defined["BRISK"]
    assert again.status == 304


async def test_operators_see_the_variant_that_a_client_has() -> None:
    """E3, D2: by CSDS, under the name."""
    async with (
        example() as (defined, channel),
        defined["SERVER"].client_status() as address,
        plaintext_channel(address) as operators,
        DeltaClient(channel, "node-1") as client,
    ):
        await client.send(type_url=CLUSTER, resource_locators_subscribe=[PROD])
        await client.ack(await client.receive())

        def is_accepted() -> bool:
            (found,) = defined["SERVER"].deliveries("node-1")
            return found.status is ConfigStatus.SYNCED

        await eventually(is_accepted, "the cluster is ACKed")
        found = await asked(operators)

    (config,) = found.values()
    assert (config.name, content(config.xds_config)) == ("shop", defined["PATIENT"])


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_has_the_variant_without_parameters(api_type: str) -> None:
    """E3: Envoy 1.40 asks by names, and takes what it is sent; a change of that follows."""
    defined = documented("DynamicParameterConstraints")
    prod, others = defined["PROD"], defined["OTHERS"]
    async with ResourceServer() as server:
        brisk = [resource_of(Cluster(name="shop", type="STATIC"), constraints=others)]
        server.set_resources(NODE, [resource_of(defined["PATIENT"], constraints=prod), *brisk])
        async with envoy_of(server, api_type) as envoy:
            await accepted(server)
            (delivery,) = server.deliveries(NODE)
            server.set_resources(NODE, [Cluster(name="shop", type="STATIC")])
            await accepted(server)
            stats = await envoy.stats()

    assert delivery.version == brisk[0].version
    assert stats["cluster_manager.cluster_added"] == 2
    assert [name for name in stats if name.endswith("update_rejected") and stats[name]] == []
