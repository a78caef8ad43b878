"""Requests and responses as bytes, compared with what protobuf itself makes of them."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import PeerLimitExceeded, PeerProtocolError
from control_plane.nodes import Variant
from control_plane.server.discovery.wire import (
    MAX_ERROR_CHARACTERS,
    encode,
    parse,
    parse_delta,
    parse_sotw,
)
from control_plane.server.discovery.wire_constraints import read_constraints
from control_plane.server.discovery.wire_node import MAX_FEATURES, MAX_NODE_CHARACTERS, node_message
from control_plane.server.lrs.wire_load_reports import parse_load_report
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import (
    DeltaRequest,
    ErrorDetail,
    Locator,
    Node,
    Reply,
    SotwRequest,
)
from control_plane.xds.resource import Nonce, Resource, TypeUrl, Version
from tests.fuzz.budget import PARSER

URL = TypeUrl("type.googleapis.com/envoy.config.cluster.v3.Cluster")

NODE = {
    "id": "node-1",
    "cluster": "edge",
    "user_agent_name": "envoy",
    "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40, "patch": 2}},
    "client_features": ["xds.config.resource-in-sotw"],
    "extensions": [
        {"name": f"envoy.filters.http.x{n}", "type_urls": ["y" * 80]} for n in range(600)
    ],
}


def test_a_sotw_request_is_read() -> None:
    """Every field that the machines act on arrives under its own name."""
    raw = discovery_pb2.DiscoveryRequest(
        type_url=URL,
        resource_names=["b", "a"],
        version_info="v1",
        response_nonce="7",
        error_detail={"code": 13, "message": "no"},
        node=NODE,
    ).SerializeToString()

    assert parse(raw, Variant.SOTW) == SotwRequest(
        URL,
        ("b", "a"),
        "v1",
        "7",
        ErrorDetail(13, "no"),
        Node("node-1", "edge", "envoy/1.40.2", frozenset({"xds.config.resource-in-sotw"})),
    )


def test_a_delta_request_is_read() -> None:
    """Every field that the machines act on arrives under its own name."""
    raw = discovery_pb2.DeltaDiscoveryRequest(
        type_url=URL,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "v1"},
        response_nonce="7",
        error_detail={"code": 13, "message": "no"},
        node={"id": "node-1", "user_agent_name": "gRPC", "user_agent_version": "1.85"},
    ).SerializeToString()

    assert parse(raw, Variant.DELTA) == DeltaRequest(
        URL,
        ("a",),
        ("b",),
        {"c": "v1"},
        "7",
        ErrorDetail(13, "no"),
        Node("node-1", "", "gRPC/1.85"),
    )


@pytest.mark.parametrize("variant", Variant)
def test_what_is_absent_is_none(variant: Variant) -> None:
    """An ACK without a node has neither a node nor an error (A4, N1)."""
    request = parse(b"", variant)

    assert request.node is None
    assert request.error_detail is None


def test_what_is_kept_of_a_node_is_written_again() -> None:
    """Who asks by CSDS sees the node as it described itself, without what nobody acts on."""
    said = {
        **NODE,
        "locality": {"region": "eu", "sub_zone": "rack-7"},
        "metadata": {"role": "web", "labels": {"tags": ["a", 1, None]}},
    }
    node = parse_sotw(discovery_pb2.DiscoveryRequest(node=said).SerializeToString()).node
    assert node is not None
    del said["extensions"], said["user_agent_build_version"]

    assert MessageToDict(node_message(node), preserving_proto_field_name=True) == {
        **said,
        "user_agent_version": "1.40.2",
    }
    assert node_message(Node("n")) == base_pb2.Node(id="n")
    assert "web" not in repr(node)


def test_locators_are_read() -> None:
    """E3: in every field that has them, with their parameters in order."""
    given = [{"name": "a", "dynamic_parameters": {"v": "1", "env": "prod"}}, {"name": "b"}]
    locators = (Locator("a", (("env", "prod"), ("v", "1"))), Locator("b"))
    sotw = discovery_pb2.DiscoveryRequest(resource_locators=given)
    delta = discovery_pb2.DeltaDiscoveryRequest(
        resource_locators_subscribe=given, resource_locators_unsubscribe=given[1:]
    )

    assert parse_sotw(sotw.SerializeToString()).resource_locators == locators
    read = parse_delta(delta.SerializeToString())
    assert (read.subscribe_locators, read.unsubscribe_locators) == (locators, locators[1:])


def test_an_error_without_text_is_an_error() -> None:
    """NACK means that error_detail is present, even if there is nothing in it (A4)."""
    raw = discovery_pb2.DiscoveryRequest(error_detail={}).SerializeToString()

    assert parse_sotw(raw).error_detail == ErrorDetail(0, "")


def test_a_client_that_names_no_version_has_only_a_name() -> None:
    """The user agent is what the client says it is, and no more."""
    raw = discovery_pb2.DiscoveryRequest(
        node={"id": "n", "user_agent_name": "test"}
    ).SerializeToString()

    assert parse_sotw(raw).node == Node("n", "", "test")


@pytest.mark.parametrize(
    ("variant", "raw"),
    [
        pytest.param(Variant.SOTW, b"\xff", id="sotw-no-tag"),
        pytest.param(Variant.SOTW, b"\x12\x7fabc", id="sotw-cut-off"),
        pytest.param(Variant.SOTW, b"\x12\x02\x0a\x05", id="sotw-cut-off-inside-the-node"),
        pytest.param(Variant.SOTW, b"\x22\x02\xff\xfe", id="sotw-type-url-not-utf-8"),
        pytest.param(Variant.DELTA, b"\xff", id="delta-no-tag"),
        pytest.param(Variant.DELTA, b"\x0a\x7fabc", id="delta-cut-off"),
        pytest.param(Variant.DELTA, b"\x0a\x02\x0a\x05", id="delta-cut-off-inside-the-node"),
        pytest.param(Variant.DELTA, b"\x12\x02\xff\xfe", id="delta-type-url-not-utf-8"),
    ],
)
def test_garbage_is_the_clients_fault(variant: Variant, raw: bytes) -> None:
    """Bytes that are no request of the variant say so, and show none of what was in them."""
    with pytest.raises(PeerProtocolError, match=rf"^{len(raw)} bytes that are no envoy\.service"):
        parse(raw, variant)


@PARSER
@given(st.binary(max_size=200), st.sampled_from(Variant))
def test_no_bytes_raise_anything_else(raw: bytes, variant: Variant) -> None:
    """Whatever a client sends is a request or its fault, never an error of ours."""
    with contextlib.suppress(PeerProtocolError):
        parse(raw, variant)


def resource(name: str = "a", *aliases: str) -> Resource:
    """Return a resource of the type that the tests use."""
    return Resource.of(URL, name, b"body of " + name.encode(), aliases)


def test_a_sotw_response_is_written() -> None:
    """It has version, nonce, every resource as an Any of its type, and who says it (A1, N5, R2)."""
    reply = Reply(URL, Nonce("3"), Version("v2"), (resource("a"), resource("b")))

    written = discovery_pb2.DiscoveryResponse.FromString(encode(reply, Variant.SOTW, "cp-1"))

    assert written == discovery_pb2.DiscoveryResponse(
        version_info="v2",
        nonce="3",
        type_url=URL,
        resources=[
            {"type_url": URL, "value": b"body of a"},
            {"type_url": URL, "value": b"body of b"},
        ],
        control_plane={"identifier": "cp-1"},
    )


def test_a_delta_response_is_written() -> None:
    """It has name, aliases and version of each resource, and the names of those gone (R5, N5).

    What is not there and was asked for on demand has a version that no resource has (T2).
    """
    it = resource("a", "also-a")
    reply = Reply(URL, Nonce("3"), Version("v2"), (it,), ("gone",), ("unknown",))

    written = discovery_pb2.DeltaDiscoveryResponse.FromString(encode(reply, Variant.DELTA, "cp-1"))

    assert written == discovery_pb2.DeltaDiscoveryResponse(
        system_version_info="v2",
        nonce="3",
        type_url=URL,
        resources=[
            {
                "name": "a",
                "aliases": ["also-a"],
                "version": it.version,
                "resource": {"type_url": URL, "value": b"body of a"},
            },
            {"name": "unknown", "aliases": ["unknown"], "version": "3"},
        ],
        removed_resources=["gone"],
        control_plane={"identifier": "cp-1"},
    )


def test_a_ttl_is_written_in_both_variants() -> None:
    """T1, T3: in SotW, what has one is wrapped, and what has none is not."""
    it, other = resource("a", "also-a"), resource("b")
    reply = Reply(URL, Nonce("3"), Version("v2"), (it, other), ttls={"a": 1.5})

    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(encode(reply, Variant.DELTA, "cp-1"))
    sotw = discovery_pb2.DiscoveryResponse.FromString(encode(reply, Variant.SOTW, "cp-1"))

    assert [each.HasField("ttl") for each in delta.resources] == [True, False]
    wrapped, plain = sotw.resources
    unwrapped = discovery_pb2.Resource()
    assert wrapped.Unpack(unwrapped)
    assert unwrapped == discovery_pb2.Resource(
        name="a",
        version=it.version,
        resource={"type_url": URL, "value": b"body of a"},
        ttl={"seconds": 1, "nanos": 500_000_000},
    )
    assert delta.resources[0].ttl == unwrapped.ttl
    assert (plain.type_url, plain.value) == (URL, b"body of b")


@pytest.mark.parametrize("variant", list(Variant))
def test_an_error_is_written_in_both_variants(variant: Variant) -> None:
    """E1: the name as a ResourceName, and a Status with the reason; nobody else hears of it."""
    errors = {"gone": ErrorDetail(5, "no such thing")}
    reply = Reply(URL, Nonce("3"), Version("v2"), (resource("a"),), errors=errors)
    response = {
        Variant.SOTW: discovery_pb2.DiscoveryResponse,
        Variant.DELTA: discovery_pb2.DeltaDiscoveryResponse,
    }[variant]

    written = response.FromString(encode(reply, variant, "cp-1"))

    assert list(written.resource_errors) == [
        discovery_pb2.ResourceError(
            resource_name={"name": "gone"},
            error_detail={"code": 5, "message": "no such thing"},
        )
    ]
    assert len(written.resources) == 1


@PARSER
@given(raw=st.binary(max_size=200))
def test_no_bytes_break_a_load_report(raw: bytes) -> None:
    """L1: whatever a client sends is a report, or its own fault."""
    with contextlib.suppress(PeerProtocolError):
        parse_load_report(raw)


PROD = discovery_pb2.DynamicParameterConstraints(constraint={"key": "env", "value": "prod"})
OF_PROD = read_constraints(PROD)
VARIANT = Resource.of(URL, "a", b"body", constraints=OF_PROD)


def test_constraints_are_written_beside_the_name_in_state_of_the_world() -> None:
    """E3: "only one of *name* or *resource_name* may be set", and so what has it is wrapped."""
    reply = Reply(
        URL, Nonce("7"), Version("v"), (VARIANT, resource("b")), constraints={"a": OF_PROD}
    )
    response = discovery_pb2.DiscoveryResponse.FromString(encode(reply, Variant.SOTW, "me"))
    wrapped = discovery_pb2.Resource()

    assert response.resources[0].Unpack(wrapped)
    assert wrapped == discovery_pb2.Resource(
        resource_name={"name": "a", "dynamic_parameter_constraints": PROD},
        version=VARIANT.version,
        resource={"type_url": URL, "value": b"body"},
    )
    assert response.resources[1].type_url == URL


def test_constraints_are_written_in_delta() -> None:
    """E3: of what comes, of what is kept alive, and of what goes, with constraints or without."""
    reply = Reply(
        URL,
        Nonce("7"),
        Version("v"),
        (VARIANT, resource("b")),
        ("c",),
        ttls={"a": 1.0, "d": 2.0},
        kept={"d": Version("1")},
        constraints={"a": OF_PROD, "d": OF_PROD},
        removed_variants=(("a", None), ("e", OF_PROD)),
    )
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(encode(reply, Variant.DELTA, "me"))
    variant, plain, kept = response.resources

    assert (variant.name, plain.name, kept.name) == ("", "b", "")
    assert variant.resource_name.dynamic_parameter_constraints == PROD
    assert (variant.resource_name.name, kept.resource_name.name) == ("a", "d")
    assert kept.resource_name.dynamic_parameter_constraints == PROD
    assert (variant.ttl.seconds, kept.ttl.seconds) == (1, 2)
    assert not plain.HasField("resource_name")
    assert list(response.removed_resources) == ["c"]
    assert [
        (each.name, each.HasField("dynamic_parameter_constraints"))
        for each in response.removed_resource_names
    ] == [("a", False), ("e", True)]


def test_a_heartbeat_has_no_content() -> None:
    """T2: it has the version that the client has, and the TTL."""
    version = Version("7")
    reply = Reply(URL, Nonce("3"), Version("v2"), (), ttls={"a": 2.0}, kept={"a": version})

    written = discovery_pb2.DeltaDiscoveryResponse.FromString(encode(reply, Variant.DELTA, "cp-1"))

    assert list(written.resources) == [
        discovery_pb2.Resource(name="a", version="7", ttl={"seconds": 2})
    ]


def test_envoys_first_request_is_read_in_a_tenth_of_a_millisecond() -> None:
    """61 KB of extensions cost next to nothing; allowed is ten times that, for busy machines."""
    raw = discovery_pb2.DeltaDiscoveryRequest(node=NODE, type_url=URL).SerializeToString()
    assert len(raw) > 60_000

    def seconds() -> float:
        start = time.thread_time()
        parse_delta(raw)
        return time.thread_time() - start

    assert min(seconds() for _ in range(20)) < 0.001


@pytest.mark.parametrize("newline", ["\n", "\\n"], ids=["text", "as protobuf prints it"])
@pytest.mark.parametrize("kind", ["", "EC ", "RSA "])
def test_an_error_that_quotes_a_private_key_loses_it(kind: str, newline: str) -> None:
    """Envoy may quote the Secret that it refuses; what it says of it is kept, the key is not."""
    begin, end = f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----"
    text = f'bad secret: inline_bytes: "{newline.join([begin, "MIGH", end])}" and {begin}MIGH'
    error = {"code": 13, "message": text}
    raw = discovery_pb2.DeltaDiscoveryRequest(error_detail=error).SerializeToString()

    detail = parse_delta(raw).error_detail

    assert detail == ErrorDetail(13, 'bad secret: inline_bytes: "[redacted]" and [redacted]')


def test_an_error_ends_without_a_newline() -> None:
    """Envoy ends what it says of listeners with one, and it would be shown as two characters."""
    error = {"code": 13, "message": "listener-a: cannot bind\nlistener-b: cannot bind\n"}
    raw = discovery_pb2.DeltaDiscoveryRequest(error_detail=error).SerializeToString()

    detail = parse_delta(raw).error_detail

    assert detail == ErrorDetail(13, "listener-a: cannot bind\nlistener-b: cannot bind")


FEW = StreamLimits(names=3, parameters=2)
SEVEN = [*"abcdefg"]
LOCATORS = [{"name": name} for name in SEVEN]
VARIED = [{"name": "a", "dynamic_parameters": {"a": "1", "b": "2", "c": "3"}}]


@pytest.mark.parametrize(
    ("variant", "said", "why"),
    [
        (Variant.SOTW, {"resource_names": SEVEN}, "3 resource names"),
        (Variant.SOTW, {"resource_names": ["a"] * 7}, "3 resource names"),
        (Variant.SOTW, {"resource_locators": LOCATORS}, "3 resource names"),
        (Variant.SOTW, {"resource_locators": VARIED}, "2 dynamic parameters"),
        (Variant.DELTA, {"resource_names_subscribe": SEVEN}, "3 resource names"),
        (Variant.DELTA, {"resource_names_unsubscribe": SEVEN}, "3 resource names"),
        (Variant.DELTA, {"initial_resource_versions": dict.fromkeys(SEVEN, "1")}, "3 resource"),
        (Variant.DELTA, {"resource_locators_subscribe": LOCATORS}, "3 resource names"),
        (Variant.DELTA, {"resource_locators_unsubscribe": LOCATORS}, "3 resource names"),
        (Variant.DELTA, {"resource_locators_unsubscribe": VARIED}, "2 dynamic parameters"),
    ],
)
def test_a_request_names_hardly_more_than_a_stream_may_have(
    variant: Variant, said: dict[str, Any], why: str
) -> None:
    """Twice as much is not looked at, nor are so many to give up: no client has as many."""
    kind = {Variant.SOTW: discovery_pb2.DiscoveryRequest}.get(
        variant, discovery_pb2.DeltaDiscoveryRequest
    )
    raw = kind(type_url=URL, **said).SerializeToString()

    with pytest.raises(PeerLimitExceeded, match=f"more than {why}"):
        parse(raw, variant, FEW)

    parse(raw, variant)


def test_what_is_kept_of_a_request_is_bounded() -> None:
    """Texts that a client makes up are cut, whatever size the message was allowed to have."""
    long = "x" * 100_000
    raw = discovery_pb2.DiscoveryRequest(
        error_detail={"code": 13, "message": long},
        node={
            "id": "node-1",
            "cluster": long,
            "user_agent_name": long,
            "client_features": [f"{number} {long}" for number in range(100)],
            "locality": {"region": long, "zone": long, "sub_zone": long},
            "metadata": {"long": long},
        },
    ).SerializeToString()
    request = parse_sotw(raw)

    assert request.error_detail == ErrorDetail(13, long[:MAX_ERROR_CHARACTERS])
    assert request.node is not None
    assert len(request.node.cluster) == len(request.node.user_agent) == MAX_NODE_CHARACTERS
    assert len(request.node.client_features) == MAX_FEATURES
    assert max(map(len, request.node.client_features)) == MAX_NODE_CHARACTERS
    assert [*map(len, request.node.locality)] == [MAX_NODE_CHARACTERS] * 3
    assert request.node.metadata == b""
