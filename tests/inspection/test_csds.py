"""CSDS on real Envoys: Envoy's own words for each state, and no secret in any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from envoy.type.matcher.v3 import node_pb2, string_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict
from structlog.testing import capture_logs

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.held import Held
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from tests.envoy.harness import unique_address, until
from tests.inspection.world import APP, C2C_SECRET, Scene, is_served, scene, type_of, words
from tests.security.envoys import envoy_of
from tests.security.leaks import Secrets
from tests.security.world import enrol
from tests.tls_pairs import key_in
from tests.xds_client import SotwClient

Configs = Mapping[tuple[str, str], csds_pb2.ClientConfig.GenericXdsConfig]


def matching(**pattern: object) -> csds_pb2.ClientStatusRequest:
    """Return a request for the nodes whose id is like that."""
    matcher = node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(**pattern))
    return csds_pb2.ClientStatusRequest(node_matchers=[matcher])


async def configs(here: Scene, request: csds_pb2.ClientStatusRequest | None = None) -> Configs:
    """Return what is shown of the one client there is, by type and name."""
    (client,) = (await here.operator.csds(request)).config
    assert client.node.id == here.holder.guid
    return {(each.type_url, each.name): each for each in client.generic_xds_configs}


async def config_with(here: Scene, status: int) -> csds_pb2.ClientConfig.GenericXdsConfig:
    """Wait until the secret for the routes is in a state, and return what is shown of it."""

    async def probe() -> csds_pb2.ClientConfig.GenericXdsConfig | None:
        found = (await configs(here))[SECRET, C2C_SECRET]
        return found if found.config_status == status else None

    found = await until(probe, what=f"the secret is {csds_pb2.ConfigStatus.Name(status)}")
    assert found is not None
    return found


async def test_synced_resources_are_shown_with_their_content(tmp_path: Path) -> None:
    """D2, D3: each resource with its version, its content, and since when the client has it."""
    async with scene(tmp_path) as here, here.envoy():
        await here.cf.create_app("app-c")
        await here.cf.allow("app-c", APP)
        caller = await enrol(here.cf, "app-c", unique_address())
        state = here.cf.running.core.registry.state
        status = await here.until(
            lambda each: is_served(each) and words(each)["ECDS"] == "SYNCED",
            what="everything is SYNCED and served, and the caller's filter too",
        )
        found = await configs(here)
        acked = {
            (each.type_url, resource.name): resource.acked_version
            for each in status.types
            for resource in each.resources
        }

        assert {name for _, name in found} == {
            "service-cluster-8080",
            "listener-8080-61001",
            "listener-8080-61443",
            f"allowed-sources-61443-{state.instances[InstanceGuid(caller.guid)].app_guid}",
            C2C_SECRET,
            "id-cert-and-key",
        }
        assert {key: each.version_info for key, each in found.items()} == acked
        for (type_url, _), each in found.items():
            assert each.config_status == csds_pb2.SYNCED
            assert each.client_status == config_dump_shared_pb2.ACKED
            assert each.xds_config.type_url == type_url
            assert each.xds_config.value
            assert not each.HasField("error_state")
        shown = found[SECRET, C2C_SECRET].last_updated.ToDatetime()
        (since,) = [r.since for r in type_of(status, "SDS").resources if r.name == C2C_SECRET]
        assert abs((shown - since.ToDatetime()).total_seconds()) < 0.01
        assert {CLUSTER, LISTENER, EXTENSION_CONFIG, SECRET} == {url for url, _ in found}


async def test_a_paused_client_is_stale_and_its_old_version_is_shown(tmp_path: Path) -> None:
    """D3: STALE is sent and not answered; what the client has is the version before."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        before = (await configs(here))[SECRET, C2C_SECRET].version_info
        envoy.pause()
        await here.map_route("second")
        stale = await config_with(here, csds_pb2.STALE)
        assert stale.client_status == config_dump_shared_pb2.REQUESTED
        assert stale.version_info == before
        assert not stale.HasField("xds_config")
        envoy.resume()
        assert (await config_with(here, csds_pb2.SYNCED)).version_info != before


async def test_nobody_s_private_key_is_shown(tmp_path: Path) -> None:
    """D4: the certificate is there, and in the place of its key what Envoy's own dump writes."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        secrets = Secrets()
        for name in (C2C_SECRET, "id-cert-and-key"):
            held = here.cf.running.core.custody.get(InstanceGuid(here.holder.guid), name)
            assert isinstance(held, Held)
            secrets.add_key(key_in(held.resource), name)
        answer = await here.operator.csds()
        found = await configs(here)
        secret = secret_pb2.Secret.FromString(found[SECRET, C2C_SECRET].xds_config.value)

        assert b"BEGIN CERTIFICATE" in secret.tls_certificate.certificate_chain.inline_bytes
        assert secret.tls_certificate.private_key.inline_string == "[redacted]"
        assert not secrets.found_in_any([answer.SerializeToString(), str(answer)])


async def test_contents_can_be_left_out(tmp_path: Path) -> None:
    """D2: without contents the versions and states are the same."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        full = await configs(here)
        short = await configs(here, csds_pb2.ClientStatusRequest(exclude_resource_contents=True))

        assert full.keys() == short.keys()
        for key, each in short.items():
            assert not each.HasField("xds_config")
            assert each.version_info == full[key].version_info


async def test_matchers_are_ored(tmp_path: Path) -> None:
    """D2: no matcher means all clients, several mean those that any of them names."""
    async with scene(tmp_path) as here, here.envoy():
        other = await enrol(here.cf, APP, unique_address())
        await here.until_served()
        async with envoy_of(here.cf, other, tmp_path / "other"):
            mine, theirs = here.holder.guid, other.guid

            async def two() -> bool:
                return len((await here.operator.csds()).config) == 2

            await until(two, what="both are connected")
            both = matching(exact=mine)
            both.MergeFrom(matching(exact=theirs))
            expected = {
                "all": (csds_pb2.ClientStatusRequest(), {mine, theirs}),
                "both": (both, {mine, theirs}),
                "exact": (matching(exact=mine), {mine}),
                "exact, other case": (matching(exact=mine.upper(), ignore_case=True), {mine}),
                "wrong case": (matching(exact=mine.upper()), set()),
                "prefix": (matching(prefix=theirs[:-1]), {theirs}),
                "suffix": (matching(suffix=theirs[1:]), {theirs}),
                "contains": (matching(contains=mine[1:-1]), {mine}),
                "contains, other case": (
                    matching(contains=mine[1:-1].upper(), ignore_case=True),
                    {mine},
                ),
                "regex": (matching(safe_regex={"regex": f"{mine[:-1]}."}), {mine}),
                "regex of all": (matching(safe_regex={"regex": "[0-9a-f-]{36}"}), {mine, theirs}),
                "regex of a part": (matching(safe_regex={"regex": mine[:-1]}), set()),
                "nobody": (matching(exact="nobody"), set()),
                "no pattern": (
                    csds_pb2.ClientStatusRequest(node_matchers=[node_pb2.NodeMatcher()]),
                    {mine, theirs},
                ),
            }
            for what, (request, nodes) in expected.items():
                answer = await here.operator.csds(request)
                assert {each.node.id for each in answer.config} == nodes, what


async def test_a_client_is_shown_as_it_describes_itself(tmp_path: Path) -> None:
    """D2: with locality and metadata, by which it is found too."""
    said = {
        "cluster": "edge",
        "user_agent_name": "envoy",
        "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}},
        "client_features": ["b", "a"],
        "locality": {"region": "eu", "zone": "eu-1", "sub_zone": "rack-7"},
        "metadata": {"role": "web", "labels": {"app": "shop"}},
    }
    async with (
        scene(tmp_path) as here,
        here.holder.connect(here.cf.running.xds_address) as channel,
        SotwClient(channel, here.holder.guid) as client,
    ):
        await client.send(
            type_url=SECRET, resource_names=[C2C_SECRET], node={"id": here.holder.guid, **said}
        )
        await client.receive()
        (shown,) = (await here.operator.csds()).config
        node = MessageToDict(shown.node, preserving_proto_field_name=True)
        matchers = {
            name: csds_pb2.ClientStatusRequest(
                node_matchers=[
                    node_pb2.NodeMatcher(
                        node_metadatas=[
                            {
                                "path": [{"key": "labels"}, {"key": "app"}],
                                "value": {"string_match": {"exact": name}},
                            }
                        ]
                    )
                ]
            )
            for name in ("shop", "blog")
        }
        found = {
            name: len((await here.operator.csds(each)).config) for name, each in matchers.items()
        }

    version = {"user_agent_version": "1.40.0", "client_features": ["a", "b"]}
    del said["user_agent_build_version"]
    assert node == {**said, **version, "id": here.holder.guid}
    assert found == {"shop": 1, "blog": 0}


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            matching(safe_regex={"regex": "b)"}),
            "'b)' is no regular expression of RE2: unexpected ): b)",
        ),
        (
            csds_pb2.ClientStatusRequest(
                node_matchers=[node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher())]
            ),
            "node_id is matched by exact, prefix, suffix, contains or safe_regex",
        ),
        (
            csds_pb2.ClientStatusRequest(
                node_matchers=[node_pb2.NodeMatcher(node_metadatas=[struct_pb2.StructMatcher()])]
            ),
            "a matcher of metadata has a path of one key or more",
        ),
    ],
    ids=["regex", "nothing", "metadata"],
)
async def test_matchers_that_are_not_understood_are_refused(
    tmp_path: Path, request_: csds_pb2.ClientStatusRequest, sentence: str
) -> None:
    """D2: what cannot be matched is refused with the reason, and not taken for a match of all.

    On a stream too, which then ends; it is nothing that the log should know of.
    """
    async with scene(tmp_path) as here, here.cf.operator() as channel:
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        with capture_logs() as logged:
            stream = stub.StreamClientStatus(iter([request_]))
            for call in (stub.FetchClientStatus(request_), stream):
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert await call.details() == sentence

    assert [line for line in logged if line["log_level"] == "error"] == []


async def test_bytes_that_are_no_request_end_a_stream(tmp_path: Path) -> None:
    """Whoever sent them is told so, and nobody else notices."""
    async with scene(tmp_path) as here, here.cf.operator() as channel:
        raw: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus"
        )
        call = raw(iter([b"\xff"]))

        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await call.details() == "1 bytes that are no message of this method"
        assert (await here.operator.csds()).config == []


async def test_a_stream_answers_each_request(tmp_path: Path) -> None:
    """D1: StreamClientStatus shows the moment at which it was asked, again and again."""
    async with scene(tmp_path) as here, here.envoy() as envoy, here.cf.operator() as channel:
        await here.until_served()
        call = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel).StreamClientStatus()

        async def ask() -> int:
            await call.write(csds_pb2.ClientStatusRequest(exclude_resource_contents=True))
            (client,) = (await call.read()).config
            (secret,) = [c for c in client.generic_xds_configs if c.name == C2C_SECRET]
            return int(secret.config_status)

        async def is_stale() -> bool:
            return bool(await ask() == csds_pb2.STALE)

        assert await ask() == csds_pb2.SYNCED
        envoy.pause()
        await here.map_route("second")
        await until(is_stale, what="the stream shows it STALE")
        envoy.resume()
        await here.until_served()
        assert await ask() == csds_pb2.SYNCED
        await call.done_writing()
        async with asyncio.timeout(5):
            assert await call.code() is grpc.StatusCode.OK


async def test_a_refused_listener_shows_the_text_and_the_version(tmp_path: Path) -> None:
    """D3: ERROR has the text of the NACK, the version that was refused, and when."""
    async with scene(tmp_path) as here:
        server = await asyncio.start_server(lambda _r, w: w.close(), here.address, 61443)
        async with server, here.envoy():

            async def refused() -> csds_pb2.ClientConfig.GenericXdsConfig | None:
                if not (await here.operator.csds()).config:
                    return None  # Envoy has not connected yet
                found = (await configs(here)).get((LISTENER, "listener-8080-61443"))
                return found if found and found.config_status == csds_pb2.ERROR else None

            config = await until(refused, what="the listener is refused")
            assert config is not None
            snapshot = here.cf.running.core.nodes.snapshot(here.holder.guid)
            assert snapshot is not None
            wanted = snapshot.of_type(LISTENER).resources["listener-8080-61443"]

            assert config.client_status == config_dump_shared_pb2.NACKED
            assert "Address already in use" in config.error_state.details
            assert config.error_state.version_info == wanted.version
            assert config.error_state.last_update_attempt.seconds > 0
            assert not config.HasField("xds_config")
