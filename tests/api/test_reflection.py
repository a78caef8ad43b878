"""grpcurl, the real one, finds its way by reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import ads_pb2, discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_reflection.v1alpha import reflection_pb2

from control_plane.api.v1 import name_table_pb2
from control_plane.server.reflection import add_reflection
from tests.api.serving import channel_to, grpcurl, serving

ADS = ads_pb2.DESCRIPTOR.services_by_name["AggregatedDiscoveryService"].full_name
OUR_FILES = resources.files("control_plane.api.v1").joinpath("c2c.v1.binpb").read_bytes()
OUR_SERVICES = {
    f"{file.package}.{service.name}": [method.name for method in service.method]
    for file in FileDescriptorSet.FromString(OUR_FILES).file
    for service in file.service
}
"""The names of their methods, by the service's."""
TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


async def one_answer(
    requests: AsyncIterator[object], context: object
) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
    """Answer a stream with a name table, and a listener with a filter that is an Any itself."""
    del requests
    filter_ = {"name": "tcp", "typed_config": tcp_proxy()}
    listener = listener_pb2.Listener(
        name="listener-8080-61443", filter_chains=[{"filters": [filter_]}]
    )
    table = name_table_pb2.NameTable(domains=["apps.internal"])
    yield discovery_pb2.DiscoveryResponse(resources=[packed(listener), packed(table)])


def tcp_proxy() -> AnyMessage:
    """Return a TcpProxy with only its cluster set, made by hand: its module is not imported."""
    cluster = b"service-cluster-8080"
    return AnyMessage(type_url=TCP_PROXY, value=b"\x12" + bytes([len(cluster)]) + cluster)


def packed(message: Any) -> AnyMessage:  # noqa: ANN401 - messages of xds-protos have no stubs
    """Return a message as an Any."""
    any_message = AnyMessage()
    any_message.Pack(message)
    return any_message


def add(server: grpc.aio.Server) -> None:
    """Serve a discovery service, and reflection that also tells of the operator's API."""
    method = grpc.stream_stream_rpc_method_handler(
        one_answer,
        request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(ADS, {"StreamAggregatedResources": method})
    server.add_generic_rpc_handlers((handler,))
    add_reflection(server, [ADS, *OUR_SERVICES])


async def test_grpcurl_lists_the_services(tmp_path: Path) -> None:
    """`grpcurl list` shows exactly what was said to be served, and reflection itself."""
    async with serving(tmp_path, add) as socket:
        answer = await grpcurl(socket, "list")

    wanted = [*OUR_SERVICES, ADS, "grpc.reflection.v1alpha.ServerReflection"]
    assert answer.out.split() == sorted(wanted)


async def test_grpcurl_describes_a_service_with_its_comments(tmp_path: Path) -> None:
    """`grpcurl describe` prints what the .proto file says about a service, a message, an enum."""
    async with serving(tmp_path, add) as socket:
        service = await grpcurl(socket, "describe", "c2c.v1.RouteService")
        message = await grpcurl(socket, "describe", "c2c.v1.MapRouteRequest")
        enum = await grpcurl(socket, "describe", "c2c.v1.Wait")

    assert "rpc MapRoute ( .c2c.v1.MapRouteRequest )" in service.out
    assert "// Maps a route to an app." in service.out
    assert "// Name or GUID." in message.out
    assert "WAIT_SERVED = 2;" in enum.out
    assert "// The change is on disk." in enum.out


async def test_every_service_and_method_of_ours_is_documented(tmp_path: Path) -> None:
    """No service and no method of the API is described without a word about it."""
    async with serving(tmp_path, add) as socket:
        for service, methods in OUR_SERVICES.items():
            text = (await grpcurl(socket, "describe", service)).out
            lines = [line.strip() for line in text.splitlines()]
            described = [
                (line.split()[1], before.startswith("//"))
                for before, line in pairwise(lines)
                if line.startswith(("rpc ", "service "))
            ]

            name = service.rpartition(".")[2]
            assert described == [(name, True), *((each, True) for each in sorted(methods))]


async def test_grpcurl_prints_an_any_within_an_any(tmp_path: Path) -> None:
    """The types of Envoy and of ours are found, also one that this process never needed."""
    async with serving(tmp_path, add) as socket:
        answer = await grpcurl(socket, f"{ADS}/StreamAggregatedResources", request={})

    listener, table = answer.json()["resources"]
    assert listener["filter_chains"][0]["filters"][0]["typed_config"] == {
        "@type": TCP_PROXY,
        "cluster": "service-cluster-8080",
    }
    assert table == {"@type": "type.googleapis.com/c2c.v1.NameTable", "domains": ["apps.internal"]}


async def test_grpcurl_describes_a_method(tmp_path: Path) -> None:
    """A method can be asked for by itself, and comes with its comment."""
    async with serving(tmp_path, add) as socket:
        answer = await grpcurl(socket, "describe", "c2c.v1.RouteService.MapRoute")

    assert answer.code == 0
    assert "rpc MapRoute ( .c2c.v1.MapRouteRequest )" in answer.out
    assert "// Maps" in answer.out


@pytest.mark.parametrize(
    "symbol",
    [
        "envoy.no.such.package.v3.Message",
        "envoy.config.listener.v3.NoSuchMessage",
        "google.rpc.status_pb2.Status",
        "os.path.Any",
        "../../etc.Passwd",
        "c2c.v1.NoSuchService",
        "c2c.v1.RouteService.NoSuchMethod",
    ],
)
async def test_what_does_not_exist_is_not_found(tmp_path: Path, symbol: str) -> None:
    """A name that is nobody's gets an answer, and imports nothing but message types."""
    async with serving(tmp_path, add) as socket:
        answer = await grpcurl(socket, "describe", symbol)

    assert answer.code != 0
    assert "not found" in answer.err.lower()


def request(**fields: object) -> reflection_pb2.ServerReflectionRequest:
    """Return one question."""
    return reflection_pb2.ServerReflectionRequest(**fields)  # type: ignore[arg-type] # checked at run time


async def test_reflection_is_served_as_v1_too(tmp_path: Path) -> None:
    """Tools that ask for grpc.reflection.v1 get the same answers to every kind of question."""
    extension = reflection_pb2.ExtensionRequest(
        containing_type="google.protobuf.MessageOptions", extension_number=1071
    )
    questions = [
        request(list_services=""),
        request(file_by_filename="c2c/v1/route.proto"),
        request(file_containing_symbol="c2c.v1.RouteService"),
        request(file_containing_extension=extension),
        request(all_extension_numbers_of_type="google.protobuf.MessageOptions"),
    ]
    async with serving(tmp_path, add) as socket, channel_to(socket) as channel:
        answers = []
        for version in ("v1", "v1alpha"):
            method = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            answers.append([answer async for answer in method(iter(questions))])

    assert answers[0] == answers[1]
    assert [answer.WhichOneof("message_response") for answer in answers[0]] == [
        "list_services_response",
        "file_descriptor_response",
        "file_descriptor_response",
        "file_descriptor_response",
        "all_extension_numbers_response",
    ]
