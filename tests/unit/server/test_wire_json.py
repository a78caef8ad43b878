"""Requests and responses as JSON, compared with what protobuf itself makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.http.basic_auth.v3 import basic_auth_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import MessageToJson, Parse
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import MessageError, PeerProtocolError
from control_plane.server.discovery.wire import parse_sotw
from control_plane.server.discovery.wire_constraints import read_constraints
from control_plane.server.rest.wire_json import encode_json, parse_json
from control_plane.xds.messages import ErrorDetail, Locator, Reply
from control_plane.xds.resource import Nonce, Resource, Version
from control_plane.xds.resource_type import CLUSTER
from tests.fuzz.budget import PARSER
from tests.unit.server.test_wire import NODE

FIELDS = [
    *("node", "id", "extensions", "userAgentBuildVersion", "version", "metadata", "resourceNames"),
    *("resource_names", "typeUrl", "versionInfo", "errorDetail", "code", "details", "@type"),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("own_names", [False, True], ids=["canonical", "names of the proto"])
def test_json_request_is_read_as_its_bytes_are(*, own_names: bool) -> None:
    """V5: both ways to write names mean what the bytes of the message mean."""
    message = discovery_pb2.DiscoveryRequest(
        type_url=CLUSTER,
        resource_names=["b", "a"],
        version_info="v1",
        response_nonce="7",
        error_detail={"code": 13, "message": "no"},
        node=NODE,
    )
    written = MessageToJson(message, preserving_proto_field_name=own_names)

    assert parse_json(written.encode()) == parse_sotw(message.SerializeToString())


def test_what_is_not_known_is_passed_over() -> None:
    """A field of a newer Envoy, which is not acted on anyway, shuts nobody out."""
    raw = b'{"node": {"id": "n", "of_tomorrow": 1}, "alsoNew": [{}]}'
    node = parse_json(raw).node
    assert node is not None
    assert node.id == "n"


@pytest.mark.parametrize(
    ("node", "is_read"),
    [
        ({"id": "n", "extensions": 5}, True),
        ({"id": "n", "locality": 5}, False),
        (5, False),
    ],
    ids=["extensions", "anything else", "no object"],
)
def test_extensions_are_not_looked_at(node: object, *, is_read: bool) -> None:
    """They are most of what Envoy says of itself, and nothing here acts on them."""
    raw = json.dumps({"node": node}).encode()
    if is_read:
        found = parse_json(raw).node
        assert found is not None
        assert found.id == "n"
    else:
        with pytest.raises(PeerProtocolError, match="is no DiscoveryRequest: Failed to parse"):
            parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "the body is no JSON: Expecting value"),
        (b"\xff", "the body is no JSON: "),
        (b"[" * 100_000, "the body is no JSON: maximum recursion depth exceeded"),
        (b"[]", "the body is no DiscoveryRequest: it is no object"),
        (b'{"resourceNames": "a"}', "the body is no DiscoveryRequest: Failed to parse"),
        (b'{"node": {"id": "\\ud800"}}', "the body is no DiscoveryRequest: Failed to parse"),
        (
            b'{"resource_locators": {"name": "a"}}',
            "the body is no DiscoveryRequest: Failed to parse",
        ),
    ],
    ids=["nothing", "bytes", "deep", "a list", "another type", "no Unicode", "locators"],
)
def test_what_is_no_request_is_refused_with_a_sentence(raw: bytes, sentence: str) -> None:
    """V5: the client is told what is wrong with it."""
    with pytest.raises(PeerProtocolError) as refused:
        parse_json(raw)
    assert str(refused.value).startswith(sentence)


@PARSER
@given(ANYTHING)
def test_any_json_is_a_request_or_refused(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Whatever protobuf raises comes out as one printable line."""
    said = ""
    try:
        parse_json(json.dumps(value).encode())
    except PeerProtocolError as error:
        said = str(error)
    assert not said or said.isprintable()
    assert len(said) < 1_000


def test_response_is_what_protobuf_reads() -> None:
    """V5: read by protobuf itself, the response is the message that a stream would have."""
    body = cluster_pb2.Cluster(name="c", type="STATIC").SerializeToString()
    resource = Resource.of(CLUSTER, "c", body)
    reply = Reply(CLUSTER, Nonce("7"), Version("v"), (resource,))
    message = Parse(encode_json(reply, "me"), discovery_pb2.DiscoveryResponse())

    assert (message.version_info, message.nonce, message.type_url) == ("v", "7", CLUSTER)
    assert message.control_plane.identifier == "me"
    (packed,) = message.resources
    assert (packed.type_url, packed.value) == (CLUSTER, body)


def test_errors_are_in_the_response() -> None:
    """E1, V5: read by protobuf itself, a response without resources says why there are none."""
    errors = {"a": ErrorDetail(5, "no such"), "b": ErrorDetail(7, "not you")}
    reply = Reply(CLUSTER, Nonce("7"), Version("v"), (), errors=errors)
    message = Parse(encode_json(reply, "me"), discovery_pb2.DiscoveryResponse())

    assert not message.resources
    told = {each.resource_name.name: each.error_detail for each in message.resource_errors}
    assert {name: ErrorDetail(each.code, each.message) for name, each in told.items()} == errors


def test_variant_is_wrapped_with_its_constraints() -> None:
    """V5, E3: as a stream has it, and the request has locators as one has."""
    prod = discovery_pb2.DynamicParameterConstraints(constraint={"key": "env", "value": "prod"})
    whose = read_constraints(prod)
    cluster = cluster_pb2.Cluster(name="c", type="STATIC")
    resource = Resource.of(CLUSTER, "c", cluster.SerializeToString(), constraints=whose)
    told = Reply(CLUSTER, Nonce("7"), Version("v"), (resource,), constraints={"c": whose})
    message = Parse(encode_json(told, "me"), discovery_pb2.DiscoveryResponse())
    wrapped, content = discovery_pb2.Resource(), cluster_pb2.Cluster()

    assert message.resources[0].Unpack(wrapped)
    assert wrapped.resource.Unpack(content)
    assert content == cluster
    assert wrapped.resource_name.dynamic_parameter_constraints == prod
    request = b'{"resourceLocators": [{"name": "c", "dynamicParameters": {"env": "prod"}}]}'
    assert parse_json(request).resource_locators == (Locator("c", (("env", "prod"),)),)


@pytest.mark.parametrize(
    ("url", "body", "helps"),
    [
        ("type.googleapis.com/example.v1.Unknown", b"", True),
        (CLUSTER, b"\xff", False),
        (
            CLUSTER,
            cluster_pb2.Cluster(connect_timeout={"seconds": 10**15}).SerializeToString(),
            False,
        ),
    ],
    ids=["a type that nobody knows", "no message of its type", "a time that is none"],
)
def test_what_has_no_json_is_named(url: str, body: bytes, *, helps: bool) -> None:
    """Whoever set such a resource is told which it is, and what helps if its type is not known."""
    reply = Reply(CLUSTER, Nonce("7"), Version("v"), (Resource.of(url, "odd", body),))
    with pytest.raises(MessageError, match="resource 'odd' cannot be written as JSON: ") as failed:
        encode_json(reply, "me")
    said = str(failed.value)
    assert ("; import the modules of all types of one's own that it carries" in said) == helps


def test_types_of_envoy_that_were_never_imported_have_json() -> None:
    """V5: a resource that was read as bytes may carry any of them."""
    auth = basic_auth_pb2.BasicAuth(forward_username_header="x-user")
    cluster = cluster_pb2.Cluster(name="c")
    cluster.typed_extension_protocol_options["a"].Pack(auth)
    program = (
        "import sys\n"
        "from control_plane.server.rest.wire_json import encode_json\n"
        "from control_plane.xds.messages import Reply\n"
        "from control_plane.xds.resource import Resource\n"
        "assert not any('basic_auth' in name for name in sys.modules)\n"
        f"resource = Resource.of({CLUSTER!r}, 'c', {cluster.SerializeToString()!r})\n"
        f"sys.stdout.buffer.write(encode_json(Reply({CLUSTER!r}, '7', 'v', (resource,)), 'me'))"
    )

    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    (packed,) = Parse(ran.stdout, discovery_pb2.DiscoveryResponse()).resources
    assert cluster_pb2.Cluster.FromString(packed.value) == cluster
