"""CSDS of the library: operators ask from outside who has what, at an address of their own."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from envoy.type.matcher.v3 import node_pb2

from control_plane.errors import ConfigurationError
from control_plane.server.csds import client_status
from control_plane.server.library import ResourceServer
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, SECRET
from tests.api.serving import grpcurl
from tests.server.documents import serving
from tests.waiting import eventually
from tests.xds_client import DeltaClient, plaintext_channel

QUOTA = TypeUrl("type.googleapis.com/example.v1.Quota")
CSDS = "envoy.service.status.v3.ClientStatusDiscoveryService"
HIDDEN = "not for the eyes of operators"


async def asked(
    channel: grpc.aio.Channel, request: csds_pb2.ClientStatusRequest | None = None
) -> dict[tuple[str, str, str], csds_pb2.ClientConfig.GenericXdsConfig]:
    """Return what is shown, by node, type and name."""
    stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
    answer = await stub.FetchClientStatus(request or csds_pb2.ClientStatusRequest())
    return {
        (client.node.id, each.type_url, each.name): each
        for client in answer.config
        for each in client.generic_xds_configs
    }


def matching(**pattern: str) -> csds_pb2.ClientStatusRequest:
    """Return a request for the nodes whose id is like that."""
    return csds_pb2.ClientStatusRequest(node_matchers=[node_pb2.NodeMatcher(node_id=pattern)])


async def clusters_of(client: DeltaClient) -> None:
    """Ask for clusters and wait for them; a call that is refused may end before it asked."""
    await client.subscribe(CLUSTER)
    await client.receive()


async def all_is_acked(server: ResourceServer) -> None:
    """Return once node n has ACKed whatever it was sent."""
    await eventually(
        lambda: {each.status for each in server.deliveries("n")} == {ConfigStatus.SYNCED},
        "all is ACKed",
    )


async def test_operators_see_who_has_what_and_no_secret() -> None:
    """D2, D4: states and contents, but for keys and for what nobody here can look into."""
    pair = secret_pb2.Secret(
        name="pair", tls_certificate={"private_key": {"inline_string": HIDDEN}}
    )
    quota = Resource.of(QUOTA, "requests", HIDDEN.encode())
    async with (
        ResourceServer() as server,
        server.client_status() as address,
        plaintext_channel(server.address) as channel,
        plaintext_channel(address) as operators,
        DeltaClient(channel, "n") as client,
    ):
        server.set_resources("n", [cluster_pb2.Cluster(name="web"), pair, quota])
        for url, names in ((CLUSTER, ["web"]), (SECRET, ["pair"]), (QUOTA, ["requests"])):
            await client.subscribe(url, *names)
            await client.ack(await client.receive())
        await all_is_acked(server)
        found = await asked(operators)
        nobody = await asked(operators, matching(prefix="m"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked(operators, matching())

    assert {key: each.config_status for key, each in found.items()} == {
        ("n", CLUSTER, "web"): csds_pb2.SYNCED,
        ("n", SECRET, "pair"): csds_pb2.SYNCED,
        ("n", QUOTA, "requests"): csds_pb2.SYNCED,
    }
    web = found["n", CLUSTER, "web"].xds_config
    assert cluster_pb2.Cluster.FromString(web.value).name == "web"
    shown = secret_pb2.Secret.FromString(found["n", SECRET, "pair"].xds_config.value)
    assert shown.tls_certificate.private_key.inline_string == "[redacted]"
    assert not found["n", QUOTA, "requests"].HasField("xds_config")
    assert nobody == {}
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_answer_that_would_be_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams would wait for its last step; the refusal says how to ask for less, which works."""
    monkeypatch.setattr(client_status, "MOST_OCTETS", 4096)
    cluster = cluster_pb2.Cluster(name="web", alt_stat_name="s" * 4096)
    async with (
        ResourceServer() as server,
        server.client_status() as address,
        plaintext_channel(server.address) as channel,
        plaintext_channel(address) as operators,
        DeltaClient(channel, "n") as client,
    ):
        server.set_resources("n", [cluster])
        await client.subscribe(CLUSTER, "web")
        await client.ack(await client.receive())
        await all_is_acked(server)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked(operators)
        short = csds_pb2.ClientStatusRequest(exclude_resource_contents=True)
        found = await asked(operators, short)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "node_matchers" in (refused.value.details() or "")
    assert set(found) == {("n", CLUSTER, "web")}


async def test_clients_cannot_ask() -> None:
    """It is not at the address of the nodes, and at its own there is nothing for nodes."""
    async with (
        ResourceServer() as server,
        server.client_status() as address,
        plaintext_channel(server.address) as channel,
        plaintext_channel(address) as operators,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked(channel)
        async with DeltaClient(operators, "n") as client:
            with pytest.raises(Exception, match="UNIMPLEMENTED"):
                await clusters_of(client)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_documents_example_is_asked_by_grpcurl(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of the document, run as it is, answers the real grpcurl, by reflection."""
    socket = tmp_path / "status.sock"
    async with serving("server.client_status(", "status at ", capsys, at=f"unix:{socket}"):
        listed = await grpcurl(socket, "list")
        answer = await grpcurl(socket, f"{CSDS}/FetchClientStatus")

    assert CSDS in listed.out.split()
    assert json.loads(answer.out) == {}


async def test_it_ends_with_its_block(tmp_path: Path) -> None:
    """After it nobody listens, and the nodes go on; then it can begin once more."""
    at = f"unix:{tmp_path}/status.sock"
    async with ResourceServer() as server, plaintext_channel(server.address) as channel:
        for _ in range(2):
            async with server.client_status(at) as address, plaintext_channel(at) as operators:
                assert address == at
                assert await asked(operators) == {}
        async with plaintext_channel(at) as operators:
            with pytest.raises(grpc.aio.AioRpcError):
                await asked(operators)
        server.set_resources("n", [cluster_pb2.Cluster(name="web")])
        async with DeltaClient(channel, "n") as client:
            await client.subscribe(CLUSTER)
            assert (await client.receive()).resources

    with pytest.raises(ConfigurationError, match="cannot listen on"):
        async with server.client_status("unix:/nowhere/at/all.sock"):
            pass


async def test_two_servers_do_not_share_its_port() -> None:
    """A second one is refused the port, or operators would be told of either server's clients."""
    async with (
        ResourceServer() as server,
        ResourceServer() as other,
        server.client_status() as address,
    ):
        with pytest.raises(ConfigurationError, match="address already in use"):
            async with other.client_status(address):
                pass
