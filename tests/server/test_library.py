"""The server as a library: what its document says, and what its one call promises."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as OtherCluster
from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.errors import ConfigurationError, FailedPrecondition, InvalidArgument
from control_plane.nodes import LiveStream
from control_plane.server.discovery.methods import SERVICES
from control_plane.server.library import MOST_NAMES, MOST_STREAMS, ResourceServer, resource_of
from control_plane.server.limits import ServerLimits
from control_plane.server.resources import snapshot_of
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.events import Connected, Event, Subscribed
from control_plane.xds.messages import Node
from control_plane.xds.resource import SHORTEST_TTL, Denied, Resource, TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    LB_ENDPOINT,
    LISTENER,
    RUNTIME,
    SECRET,
    VIRTUAL_HOST,
    AfterNack,
    ResourceType,
)
from tests.server.documents import DOCUMENT, documented, examples, serving
from tests.server.world import Counting, names
from tests.unit.server_security.still_clock import StillClock
from tests.waiting import eventually
from tests.xds_client import PATIENCE, DeltaClient, SotwClient, plaintext_channel

OWN = "type.googleapis.com/example.v1.Quota"


@asynccontextmanager
async def connected(server: ResourceServer) -> AsyncIterator[grpc.aio.Channel]:
    """Start a server and connect to it."""
    async with server, plaintext_channel(server.address) as channel:
        yield channel


async def test_the_documents_example_is_a_control_plane(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The code of the document, run as it is, serves a cluster and an endpoint that moves."""
    async with (
        serving("def endpoints(", "serving on ", capsys) as address,
        plaintext_channel(address) as channel,
        SotwClient(channel, "node-1") as client,
    ):
        await client.subscribe(CLUSTER)
        clusters = await client.receive()
        await client.ack(clusters)
        await client.subscribe(ENDPOINT, "web")
        ports = []
        for _ in range(2):
            endpoints = await client.receive()
            await client.ack(endpoints)
            ports.append(port_of(endpoints.resources[0]))

    assert cluster_pb2.Cluster.FromString(clusters.resources[0].value).name == "web"
    assert ports[0] in range(8080, 8089)
    assert ports[1] == ports[0] + 1


async def test_the_documents_virtual_host_is_served_on_demand() -> None:
    """W13: the document's example gives what one of its domains is asked for."""
    example = documented("vhds")
    async with connected(example["SERVER"]) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(VIRTUAL_HOST)
        first = await client.receive()
        await client.ack(first)
        await client.subscribe(VIRTUAL_HOST, "public/www.shop.example.com", "public/example.com")
        answer = await client.receive()

    assert not first.resources
    assert list(first.removed_resources) == ["public/"]
    shop, unknown = answer.resources
    assert shop.name == "public/shop"
    assert shop.aliases == ["public/shop.example.com", "public/www.shop.example.com"]
    assert (unknown.name, list(unknown.aliases)) == ("public/example.com", ["public/example.com"])
    assert not unknown.HasField("resource")


async def test_the_documents_own_type_is_served() -> None:
    """The document's example serves bytes of a type that nobody else knows."""
    example = documented("QUOTA")
    async with connected(example["SERVER"]) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(OWN, "requests")
        answer = await client.receive()

    assert names(answer.resources) == ["requests"]
    assert answer.resources[0].resource.type_url == OWN
    assert answer.resources[0].resource.value == b"any bytes: the message"


def port_of(any_: Any) -> int:  # noqa: ANN401 - an Any, made at run time
    """Return the port of the one endpoint of a packed ``ClusterLoadAssignment``."""
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(any_.value)
    port: int = assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value
    return port


@pytest.mark.parametrize(
    ("message", "type_url", "name"),
    [
        pytest.param(cluster_pb2.Cluster(name="c"), CLUSTER, "c", id="name"),
        pytest.param(
            endpoint_pb2.ClusterLoadAssignment(cluster_name="e"), ENDPOINT, "e", id="cluster-name"
        ),
        pytest.param(listener_pb2.Listener(name="l"), LISTENER, "l", id="listener"),
    ],
)
def test_type_and_name_are_those_of_the_message(message: Message, type_url: str, name: str) -> None:
    """Nobody has to say what the message says already."""
    made = resource_of(message)

    assert (made.type_url, made.name) == (type_url, name)
    assert made.body == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(cluster_pb2.Cluster(), id="empty-name"),
        pytest.param(discovery_pb2.DiscoveryRequest(), id="no-such-field"),
        pytest.param(
            descriptor_pb2.UninterpretedOption(
                name=[
                    descriptor_pb2.UninterpretedOption.NamePart(name_part="a", is_extension=False)
                ]
            ),
            id="no-text",
        ),
    ],
)
def test_a_message_without_a_name_is_refused(message: Message) -> None:
    """The error says which message it was and what to do."""
    with pytest.raises(InvalidArgument, match=r"tells no name needs a Resource\.of"):
        resource_of(message)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param({"name": "a"}, "builtins.dict", id="a dict"),
        pytest.param(
            OtherCluster(name="a"),
            "envoy_data_plane.envoy.config.cluster.v3.Cluster",
            id="of another library",
        ),
    ],
)
def test_what_is_no_message_is_refused(given: object, kind: str) -> None:
    """The error says what was given instead, and what it had to be."""
    with pytest.raises(InvalidArgument, match=f"google.protobuf, not a {re.escape(kind)}$"):
        ResourceServer().set_resources("node-1", [cast("Message", given)])


def test_types_that_wait_for_each_other_are_refused() -> None:
    """None of them would ever be sent: here the listeners come after the clusters already."""
    with pytest.raises(InvalidArgument, match=r"types wait for each other: .*Cluster, .*Listener"):
        ResourceServer(types=[ResourceType(CLUSTER, after=(LISTENER,))])


def test_a_message_that_another_is_packed_in_is_refused() -> None:
    """No client asks for the type of a wrapper, only for that of the message inside."""
    packed = any_pb2.Any()
    packed.Pack(cluster_pb2.Cluster(name="a"))
    for wrapper in (packed, discovery_pb2.Resource(name="a", resource=packed)):
        with pytest.raises(InvalidArgument, match=r"the message that a .* carries: give that one"):
            ResourceServer().set_resources("node-1", [wrapper])


async def test_the_documents_runtime_layer_has_a_ttl() -> None:
    """T1, T2: the document's example is kept alive in a client that supports that."""
    example = documented("FAULTS")
    node = {"id": "node-1", "client_features": ["xds.config.supports-resource-ttl"]}
    async with connected(example["SERVER"]) as channel, DeltaClient(channel, "node-1") as client:
        await client.send(type_url=RUNTIME, resource_names_subscribe=["faults"], node=node)
        first = await client.receive()
        await client.ack(first)

    assert [(each.name, each.ttl.seconds) for each in first.resources] == [("faults", 30)]


@pytest.mark.parametrize("kind", [DeltaClient, SotwClient])
async def test_the_documents_name_that_is_denied_has_an_error(
    kind: type[DeltaClient | SotwClient],
) -> None:
    """E1, E2: NOT_FOUND or PERMISSION_DENIED beside what there is, and the stream goes on."""
    server = documented("billing")["SERVER"]
    node = {"id": "node-1", "client_features": ["supports-resource-error-unwrapping"]}
    asked = ["billing", "nothing", "shop"]
    async with connected(server) as channel, kind(channel, "node-1") as client:
        field = "resource_names" if kind is SotwClient else "resource_names_subscribe"
        await client.send(type_url=CLUSTER, node=node, **{field: asked})
        response = await client.receive()

    assert len(response.resources) == 1
    errors = {
        each.resource_name.name: (each.error_detail.code, each.error_detail.message)
        for each in response.resource_errors
    }
    assert errors == {
        "billing": (7, "billing is for the back office alone"),
        "nothing": (5, "there is no resource of this name and type"),
    }


async def test_the_documents_collection_is_served() -> None:
    """E4: the document's example, to a client that has the parameters in another order too."""
    defined = documented("/users?zone=a")
    server, web = defined["SERVER"], defined["WEB"]
    async with connected(server) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(CLUSTER, f"{web}/*?zone=a", f"{web}/*?zone=c")
        response = await client.receive()

    assert names(response.resources) == [f"{web}/blog?zone=a", f"{web}/shop?zone=a"]
    assert list(response.removed_resources) == [f"{web}/*?zone=c"]


async def test_the_documents_endpoints_of_a_locality_are_served() -> None:
    """E4: the document's example, to a client that asks for the collection that it names."""
    defined = documented("/web-east")
    server, east = defined["SERVER"], defined["EAST"]
    async with connected(server) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(LB_ENDPOINT, defined["FROM"]["leds_collection_name"])
        response = await client.receive()

    assert names(response.resources) == [f"{east}/one", f"{east}/two"]


async def test_a_malformed_name_ends_the_stream_with_the_reason() -> None:
    """E4: and nothing else of the server."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        await client.subscribe(CLUSTER, "xdstp://a/T/id?=1")

        code, details = await client.status()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "a context parameter without a key in 'xdstp://a/T/id?=1'"


def test_a_name_that_is_not_in_its_one_form_is_refused() -> None:
    """E4: the error says how it is written."""
    name = "xdstp://a/T/id?b=2&a=1"
    with pytest.raises(InvalidArgument, match=r"is written 'xdstp://a/T/id\?a=1&b=2'"):
        snapshot_of([cluster_pb2.Cluster(name=name)])


def test_what_is_there_and_denied_is_refused() -> None:
    """E1: nobody could tell which of both is meant."""
    with pytest.raises(InvalidArgument, match="is there and denied in a snapshot: 'a'"):
        snapshot_of([cluster_pb2.Cluster(name="a"), Denied(CLUSTER, "a", "no")])


async def test_heartbeats_are_not_told_to_observers() -> None:
    """T2: they are no updates, so nobody is to be bothered by them."""
    server, counting = ResourceServer(), Counting()
    server.observe(counting)
    layer = resource_of(Runtime(name="faults"), ttl=SHORTEST_TTL)
    node = {"id": "n", "client_features": ["xds.config.supports-resource-ttl"]}
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("n", [layer])
        await client.send(type_url=RUNTIME, resource_names_subscribe=["faults"], node=node)
        first = await client.receive()
        await client.ack(first)
        beats = [await client.receive() for _ in range(3)]

    assert {each.resources[0].version for each in beats} == {first.resources[0].version}
    assert not any(each.resources[0].HasField("resource") for each in beats)
    assert counting.sent_to == {"n": 1}


def test_a_ttl_that_is_too_short_or_too_long_is_refused() -> None:
    """T2: no heartbeat could keep the one, and no message can say the other."""
    for ttl in (0.1, float("inf")):
        with pytest.raises(InvalidArgument, match=rf"a TTL is 0\.5 to .*, not {ttl}"):
            resource_of(Runtime(name="faults"), ttl=ttl)


def whose(rule: dict[str, Any]) -> Any:  # noqa: ANN401 - made at run time, without stubs
    """Return constraints."""
    return ParseDict(rule, discovery_pb2.DynamicParameterConstraints())


def test_variants_that_overlap_are_refused() -> None:
    """E3: the error says of which resource, and for which parameters both match."""
    cluster, present = cluster_pb2.Cluster(name="web"), {"constraint": {"key": "env", "exists": {}}}
    prod = {"constraint": {"key": "env", "value": "prod"}}
    variants = [resource_of(cluster, constraints=whose(each)) for each in (present, prod)]
    with pytest.raises(InvalidArgument, match=r"resource 'web' .* both match 'env=prod'"):
        snapshot_of(variants)


def test_constraints_that_say_nothing_are_refused() -> None:
    """E3: they could mean that a resource is everybody's, or nobody's."""
    with pytest.raises(InvalidArgument, match="constraints that say nothing"):
        resource_of(cluster_pb2.Cluster(name="web"), constraints=whose({}))


def test_a_virtual_host_has_no_variants() -> None:
    """E3, W13: by which parameters an alias is meant could not be told."""
    host = VirtualHost(name="public/shop", domains=["shop.test"])
    present = {"constraint": {"key": "env", "exists": {}}}
    with pytest.raises(InvalidArgument, match="a resource with aliases has no variants"):
        resource_of(host, constraints=whose(present))


@pytest.mark.parametrize(
    ("fields", "awaited"),
    [
        ({"type": "EDS"}, {}),
        ({"type": "EDS", "eds_cluster_config": {"service_name": "b"}}, {ENDPOINT: ("b",)}),
        ({"type": "STRICT_DNS"}, {ENDPOINT: ()}),
        ({"cluster_type": {"name": "of-ones-own"}}, {}),
    ],
    ids=["its-own-name", "another-name", "none", "unknown"],
)
def test_a_cluster_tells_which_endpoints_it_waits_for(
    fields: dict[str, Any], awaited: dict[TypeUrl, tuple[str, ...]]
) -> None:
    """O2: what a client waits for is sent to it again, and no endpoints of other clusters."""
    cluster = ParseDict({"name": "a", **fields}, cluster_pb2.Cluster())
    assert resource_of(cluster).awaits == awaited


def test_endpoints_tell_which_collections_of_localities_they_wait_for() -> None:
    """O2: none, where they are in no collection."""
    named, plain = {"leds_cluster_locality_config": {"leds_collection_name": "x"}}, {"priority": 1}
    for localities, awaited in (([named, plain, named], ("x", "x")), ([plain], ())):
        fields = {"cluster_name": "a", "endpoints": localities}
        assignment = ParseDict(fields, endpoint_pb2.ClusterLoadAssignment())
        assert resource_of(assignment).awaits == {LB_ENDPOINT: awaited}


def test_a_virtual_host_is_meant_by_its_domains() -> None:
    """W13: Envoy asks in lower case, and by the name of the routes, which may have slashes."""
    made = resource_of(VirtualHost(name="a/b/c", domains=["One.test", "two.test:8080"]))

    assert made.name == "a/b/c"
    assert made.aliases == ("a/b/one.test", "a/b/two.test:8080")


@pytest.mark.parametrize("name", ["shop", "/shop", "public/"])
def test_a_virtual_host_that_does_not_tell_its_routes_is_refused(name: str) -> None:
    """Nobody would ask for it: Envoy asks for what is part of its routes."""
    with pytest.raises(InvalidArgument, match="a VirtualHost is named <route configuration>/<name"):
        resource_of(VirtualHost(name=name))


def test_two_virtual_hosts_may_not_have_the_same_domain() -> None:
    """W13: which of them is meant could not be told."""
    hosts = [VirtualHost(name=f"a/{name}", domains=["one.test"]) for name in "bc"]
    with pytest.raises(InvalidArgument, match=r"alias of two resources .*: 'a/one\.test'"):
        snapshot_of(hosts)


async def test_what_is_refused_changes_nothing() -> None:
    """Two resources of one name are refused, and one named ``*``; what was set before stays."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("n", [cluster_pb2.Cluster(name="a")])
        of_which = r"envoy\.config\.cluster\.v3\.Cluster: resource name occurs twice .*: 'b'"
        with pytest.raises(InvalidArgument, match=of_which):
            server.set_resources("n", [cluster_pb2.Cluster(name="b")] * 2)
        with pytest.raises(InvalidArgument, match="no resource can have the name"):
            server.set_resources("n", [cluster_pb2.Cluster(name="*")])
        await client.subscribe(CLUSTER)

        assert names((await client.receive()).resources) == ["a"]


async def test_a_call_from_another_thread_is_refused() -> None:
    """It would wake no stream: the event loop sleeps until something else happens."""
    server = ResourceServer()
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    async with server:
        for call in (partial(server.set_resources, "n", []), partial(server.forget, "n")):
            with pytest.raises(FailedPrecondition, match=r"loop\.call_soon_threadsafe"):
                await asyncio.to_thread(call)
    await asyncio.to_thread(server.forget, "n")


async def test_one_call_says_all_that_a_node_should_have() -> None:
    """What is not in it any more is withdrawn, and the same content is no news (R6)."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("n", [cluster_pb2.Cluster(name="a"), cluster_pb2.Cluster(name="b")])
        await client.subscribe(CLUSTER)
        first = await client.receive()
        await client.ack(first)
        server.set_resources("n", [cluster_pb2.Cluster(name="b"), cluster_pb2.Cluster(name="a")])

        assert names(first.resources) == ["a", "b"]
        assert await client.is_silent()

        server.set_resources("n", [cluster_pb2.Cluster(name="b")])
        second = await client.receive()

        assert list(second.removed_resources) == ["a"]
        assert not second.resources


@pytest.mark.parametrize("kind", [SotwClient, DeltaClient])
@pytest.mark.parametrize("resources", [[], [listener_pb2.Listener(name="l")]], ids=["no", "other"])
async def test_who_asked_before_anything_was_set_is_told_that_there_is_nothing(
    kind: type[SotwClient | DeltaClient], resources: list[Message]
) -> None:
    """W15: an Envoy waits for the answer to its wildcard, and asks for listeners only then."""
    async with (
        ResourceServer() as server,
        plaintext_channel(server.address) as channel,
        kind(channel, "node-1") as client,
    ):
        await client.send(type_url=CLUSTER)
        assert await client.is_silent()
        server.set_resources("node-1", resources)
        assert not (await client.receive()).resources


async def test_the_default_serves_every_node_without_its_own() -> None:
    """What is set for ``*`` reaches nodes that nobody named, until they are, and again after."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("*", [cluster_pb2.Cluster(name="everybody's")])
        await client.subscribe(CLUSTER)
        first = await client.receive()
        await client.ack(first)
        server.set_resources("n", [cluster_pb2.Cluster(name="its own")])
        second = await client.receive()
        await client.ack(second)
        await eventually(
            lambda: server.deliveries("n")[0].status is ConfigStatus.SYNCED, "the ACK is there"
        )
        server.forget("n")
        third = await client.receive()
        await client.ack(third)

        assert names(first.resources) == names(third.resources) == ["everybody's"]
        assert names(second.resources) == ["its own"]

        server.forget("*")

        assert await client.is_silent()
        async with DeltaClient(channel, "another") as newcomer:
            await newcomer.subscribe(CLUSTER)

            assert await newcomer.is_silent()


async def test_a_client_with_very_many_resources_may_come_back() -> None:
    """C1: it says what it has of each, and is sent only what changed."""
    server = ResourceServer()
    clusters = [cluster_pb2.Cluster(name=f"cluster-{number}") for number in range(5000)]
    async with connected(server) as channel:
        server.set_resources("n", clusters)
        versions = {each.name: resource_of(each).version for each in clusters[1:]}
        async with DeltaClient(channel, "n") as client:
            await client.send(type_url=CLUSTER, initial_resource_versions=versions)

            assert names((await client.receive()).resources) == ["cluster-0"]


async def test_who_has_what_can_be_asked() -> None:
    """Each resource is SYNCED, STALE or ERROR, with what the client said against it."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        assert server.deliveries("n") == []
        server.set_resources("n", [cluster_pb2.Cluster(name="a")])
        await client.subscribe(CLUSTER)
        response = await client.receive()

        assert [(each.name, each.status) for each in server.deliveries("n")] == [
            ("a", ConfigStatus.STALE)
        ]

        await client.nack(response, "no such thing")
        await eventually(lambda: server.deliveries("n")[0].refusal is not None, "it is refused")
        (refused,) = server.deliveries("n")

        assert refused.status is ConfigStatus.ERROR
        assert refused.refusal is not None
        assert refused.refusal.error.message == "no such thing"

        await client.ack(await client.receive())
        await eventually(
            lambda: server.deliveries("n")[0].status is ConfigStatus.SYNCED, "it is accepted"
        )


async def test_who_has_what_is_told_of_each_stream() -> None:
    """Two clients of one node may be differently far, by the clock that the server was given."""
    clock = StillClock()
    server = ResourceServer(clock=clock)
    async with (
        connected(server) as channel,
        DeltaClient(channel, "n") as ahead,
        DeltaClient(channel, "n") as behind,
    ):
        server.set_resources("n", [cluster_pb2.Cluster(name="a")])
        await ahead.subscribe(CLUSTER)
        response = await ahead.receive()
        await behind.subscribe(CLUSTER)
        await behind.receive()
        clock.time += timedelta(seconds=7)
        later = clock.monotonic()
        await ahead.ack(response)

        def told() -> list[tuple[ConfigStatus, float | None]]:
            return [(each.status, each.since) for each in server.deliveries("n")]

        await eventually(
            lambda: told() == [(ConfigStatus.SYNCED, later), (ConfigStatus.STALE, None)],
            "one accepted it and the other has not answered",
        )


async def test_what_happens_can_be_watched() -> None:
    """An observer is told of each response that leaves, as the log is."""
    server, counting = ResourceServer(), Counting()
    server.observe(counting)
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        await client.subscribe(CLUSTER)
        await client.receive()

    assert counting.sent_to == {"n": 1}


class Listening(Counting):
    """An observer that keeps what requests told, and of which stream."""

    def __init__(self) -> None:
        """Have heard nothing."""
        super().__init__()
        self.heard: list[tuple[int, Event]] = []

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Keep it."""
        self.heard += [(live.number, event) for event in events]


def test_the_documents_examples_have_types(tmp_path: Path) -> None:
    """Whoever copies one can check it as strictly as the document says."""
    for number, code in enumerate(examples()):
        (tmp_path / f"example_{number}.py").write_text(code)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", tmp_path],
        cwd=DOCUMENT.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout.startswith("Success"), checked.stdout + checked.stderr


def test_the_documents_limits_are_those_of_the_server() -> None:
    """By the arguments that set them, with their defaults if limits are given and if not."""
    text = DOCUMENT.read_text("utf-8")
    rows = re.findall(r"^\| .* \| `(\w+)([^`]*)`.* \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    own = ServerLimits()
    shown = {
        name: (int(without.replace(",", "")), int(with_them.replace(",", "")))
        for name, _, without, with_them in rows
    }

    assert shown == {
        "stream": (MOST_NAMES, own.stream.names),
        "streams_per_node": (MOST_STREAMS, own.streams_per_node),
        "new_streams_per_node_and_minute": (MOST_STREAMS, own.new_streams_per_node_and_minute),
    }
    assert rows[0][1] == "=StreamLimits(names=...)"


async def test_the_documents_metrics_count(capsys: pytest.CaptureFixture[str]) -> None:
    """The document's example: streams that are open, and responses that were refused."""
    defined = documented("xds_refused_responses")
    server, streams, refused = (defined[name] for name in ("SERVER", "STREAMS", "REFUSED"))
    server.set_resources("node-1", [cluster_pb2.Cluster(name="a")])
    async with connected(server) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "no such thing")
        await eventually(lambda: refused._value.get() == 1, "the refusal is counted")
        assert streams._value.get() == 1

    await eventually(lambda: streams._value.get() == 0, "the stream is over")
    assert capsys.readouterr().out == "node-1 refused a: no such thing\n"


async def test_an_observer_is_told_what_requests_say() -> None:
    """First who came, then what it asks for; the server's name for itself is in the answer (N5)."""
    server, listening = ResourceServer(identifier="cp-7"), Listening()
    server.observe(listening)
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        await client.subscribe(CLUSTER)
        answer = await client.receive()

    assert answer.control_plane.identifier == "cp-7"
    assert listening.heard == [
        (1, Connected(Node("n"))),
        (1, Subscribed(CLUSTER, frozenset({"*"}))),
    ]


async def test_delivery_of_a_type_can_be_chosen() -> None:
    """A type of one's own, or one of Envoy's, is delivered as its ``ResourceType`` says."""
    types = [ResourceType(CLUSTER, after_nack=AfterNack.WHEN_CHANGED, batch=1)]
    server = ResourceServer(types=types)
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("n", [cluster_pb2.Cluster(name=name) for name in "ab"])
        await client.subscribe(CLUSTER)
        first = await client.receive()
        await client.ack(first)
        second = await client.receive()

        assert names(first.resources) == ["a"]
        assert names(second.resources) == ["b"]


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """An address may be a path, which only local clients reach."""
    server = ResourceServer(f"unix:{tmp_path}/xds.sock")
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        await client.subscribe(CLUSTER)

        assert names((await client.receive()).resources) == ["a"]
        assert server.address == f"unix:{tmp_path}/xds.sock"


async def test_an_address_that_is_taken_is_the_operators_problem() -> None:
    """A second server on the same port fails instead of sharing its clients."""
    async with ResourceServer() as server:
        with pytest.raises(ConfigurationError, match=f"cannot listen on {server.address}"):
            async with ResourceServer(server.address):
                pass


async def test_a_server_that_was_left_can_be_started_again() -> None:
    """It has the same address and serves what was set, as if it had been started again."""
    server = ResourceServer()
    server.set_resources("n", [cluster_pb2.Cluster(name="a")])
    addresses = set()
    for _ in range(2):
        async with connected(server) as channel, DeltaClient(channel, "n") as client:
            addresses.add(server.address)
            await client.subscribe(CLUSTER)

            assert names((await client.receive()).resources) == ["a"]

    assert len(addresses) == 1


async def test_leaving_ends_every_stream() -> None:
    """When the block is left clients are told to come again, and nothing keeps running."""
    before = len(asyncio.all_tasks())
    async with ResourceServer() as server:
        channel = grpc.aio.insecure_channel(server.address)
        client = await DeltaClient(channel, "n").__aenter__()
        await client.subscribe(CLUSTER)
        server.set_resources("n", [cluster_pb2.Cluster(name="a")])
        await client.receive()

    assert await client.status() == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    await client.__aexit__(None, None, None)
    await channel.close()
    await eventually(lambda: len(asyncio.all_tasks()) <= before, "every task is gone")


async def test_whether_it_serves_can_be_asked_by_any_load_balancer() -> None:
    """grpc.health.v1, at the same address: until it is left, and who watches is told that."""
    server = ResourceServer()
    async with connected(server) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs have no methods
        ads = next(each.service for each in SERVICES if each.only is None)
        for service in ("", ads):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="unknown service 'x'") as unknown:
            await health.Check(health_pb2.HealthCheckRequest(service="x"))
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        await server.__aexit__(None, None, None)

        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_message_has_the_same_version_in_whatever_order_it_was_filled() -> None:
    """A2, A3: the entries of a map have no order, and so none in its bytes."""
    keys = [f"key-{number}" for number in range(20)]
    one, two = cluster_pb2.Cluster(name="a"), cluster_pb2.Cluster(name="a")
    for message, order in ((one, keys), (two, keys[::-1])):
        for key in order:
            message.metadata.filter_metadata[key].update({"x": 1})

    assert resource_of(one).version == resource_of(two).version
    assert resource_of(one).body != cluster_pb2.Cluster(name="a").SerializeToString()


def test_a_set_has_the_same_version_whoever_makes_it() -> None:
    """Order and repetition do not matter: content decides the version (A3)."""
    one = snapshot_of([cluster_pb2.Cluster(name="a"), cluster_pb2.Cluster(name="b")])
    two = snapshot_of([resource_of(cluster_pb2.Cluster(name=name)) for name in "ba"])

    assert one == two
    assert one.of_type(CLUSTER).version == two.of_type(CLUSTER).version
    assert snapshot_of([Resource.of(OWN, "x", b"")]) != one


@pytest.mark.parametrize("given", [7, None, ""])
def test_what_is_no_clients_node_id_is_refused(given: object) -> None:
    """What is set for a node id that no client can have would never reach anybody."""
    server = ResourceServer()
    for call in (partial(server.set_resources, resources=[]), server.forget):
        with pytest.raises(
            InvalidArgument, match=f"a node id is a str, and no client has {given!r}"
        ):
            call(cast("str", given))


def test_a_group_may_be_called_nothing() -> None:
    """The empty text is the group of nodes that say nothing; only what is no text is refused."""
    server = ResourceServer(group_of=lambda node: node.cluster)
    server.set_resources("", [cluster_pb2.Cluster(name="a")])
    with pytest.raises(InvalidArgument, match="a group is a str, and no client has None"):
        server.set_resources(cast("str", None), [])


def test_types_of_which_nothing_would_be_sent_are_refused() -> None:
    """A batch of no resources sends nothing, and no client asks for a type that is no URL."""
    with pytest.raises(InvalidArgument, match=f"a batch is 1 or more resources, not 0: {SECRET}"):
        ResourceServer(types=[ResourceType(SECRET, batch=0)])
    with pytest.raises(InvalidArgument, match=r"is type\.googleapis\.com/<type>, not 'a\.Quota'"):
        ResourceServer(types=[ResourceType(TypeUrl("a.Quota"))])


@pytest.mark.parametrize(
    "given", [Resource.of("a.Quota", "name", b""), Denied(TypeUrl("a.Quota"), "name", "why")]
)
def test_a_type_that_no_client_could_read_is_refused(given: Resource | Denied) -> None:
    """A type travels in an ``Any``, so it is named by its URL; the bare name is refused."""
    with pytest.raises(InvalidArgument, match=r"is type\.googleapis\.com/<type>, not 'a\.Quota'"):
        ResourceServer().set_resources("node-1", [given])


async def test_a_call_whose_request_never_comes_ends() -> None:
    """Nobody holds one for ever, neither among the nodes nor among those who ask about them."""
    async with (
        ResourceServer(limits=ServerLimits(first_request_seconds=0.05)) as server,
        server.client_status() as address,
        plaintext_channel(server.address) as nodes,
        plaintext_channel(address) as operators,
    ):
        status = "/envoy.service.status.v3.ClientStatusDiscoveryService"
        calls: list[Any] = [
            nodes.stream_unary("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters")(),
            nodes.stream_stream("/grpc.health.v1.Health/Watch")(),
            operators.stream_unary(f"{status}/FetchClientStatus")(),
            operators.stream_stream(f"{status}/StreamClientStatus")(),
            operators.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(),
        ]
        async with asyncio.timeout(PATIENCE):
            ends = [(await call.code(), await call.details()) for call in calls]

    late = (grpc.StatusCode.INVALID_ARGUMENT, "no request within 0.05 seconds of the call")
    assert ends == [late] * len(calls)


async def test_a_call_that_says_at_once_to_have_no_request_is_told_so() -> None:
    """It is not late: more time would not help it."""
    method = "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters"
    async with ResourceServer() as server, plaintext_channel(server.address) as channel:
        call: Any = channel.stream_unary(method)(iter(()))
        async with asyncio.timeout(PATIENCE):
            end = await call.code(), await call.details()

    assert end == (grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")


def test_what_it_does_not_need_is_not_loaded() -> None:
    """Neither apps nor certificates nor Envoy's builders; these alone take a second and 20 MiB."""
    program = "import sys, control_plane.server.library\nprint(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = set(ran.stdout.split())

    assert "control_plane.server.library" in loaded
    assert not loaded & {"control_plane.model", "control_plane.ca", "cryptography"}
    assert "envoy_data_plane" not in loaded
