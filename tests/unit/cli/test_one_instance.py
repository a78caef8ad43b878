"""Commands about many instances are asked about one of them, by its app and its index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.api.v1 import inspection_pb2, instance_pb2
from tests.unit.cli.running import Ran, run_c2c
from tests.unit.cli.test_spaces import APP, DEADLINE, handler, older_server

IN = APP | {"app_guid": "guid-b", "space": "dev"}
GUIDS = ("i-0", "i-1")
HERE = ("-s", "dev")
METHODS: dict[str, tuple[type[Message], Message]] = {
    "InstanceService/ListInstances": (
        instance_pb2.ListInstancesRequest,
        ParseDict(
            {"instances": [IN | {"guid": guid, "index": n} for n, guid in enumerate(GUIDS)]},
            instance_pb2.ListInstancesResponse(),
        ),
    ),
    "InspectionService/GetStatus": (
        inspection_pb2.GetStatusRequest,
        ParseDict(
            {"instances": [IN | {"instance_guid": "i-1", "index": 1}]},
            inspection_pb2.GetStatusResponse(),
        ),
    ),
    "InspectionService/ListCertificates": (
        inspection_pb2.ListCertificatesRequest,
        ParseDict(
            {"certificates": [IN | {"instance_guid": guid} for guid in GUIDS]},
            inspection_pb2.ListCertificatesResponse(),
        ),
    ),
}
EVENTS = [
    inspection_pb2.Event(kind="sent", instance_guid="i-0", sentence="of another", lost=2),
    inspection_pb2.Event(kind="settled", sentence="of no instance"),
    inspection_pb2.Event(kind="sent", instance_guid="i-1", sentence="of this one", lost=1),
    inspection_pb2.Event(kind="acked", instance_guid="i-1", sentence="of this one, too"),
]


@contextmanager
def watched_server(directory: Path) -> Iterator[list[Any]]:
    """List the instances, and tell a watcher all events; yield the calls."""
    asked: list[Any] = []

    def tell(request: inspection_pb2.WatchEventsRequest, _: object) -> Iterator[Message]:
        asked.append(request)
        yield from EVENTS

    watch: grpc.RpcMethodHandler[inspection_pb2.WatchEventsRequest, Message] = (
        grpc.unary_stream_rpc_method_handler(
            tell,
            request_deserializer=inspection_pb2.WatchEventsRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    )
    listed = handler(asked, *METHODS["InstanceService/ListInstances"])
    services = {
        "InstanceService": {"ListInstances": listed},
        "InspectionService": {"WatchEvents": watch},
    }
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        for name, methods in services.items():
            made = grpc.method_handlers_generic_handler(f"c2c.v1.{name}", methods)
            server.add_generic_rpc_handlers((made,))
        server.add_insecure_port(f"unix:{directory}/admin.sock")
        server.start()
        try:
            yield asked
        finally:
            server.stop(0).wait(DEADLINE)


@pytest.mark.parametrize(
    ("command", "field"),
    [("instances", "guid"), ("status", "instance_guid"), ("certs", "instance_guid")],
)
def test_an_app_and_an_index_are_one_instance(command: str, field: str, tmp_path: Path) -> None:
    """Only what belongs to this instance is printed, for people and for programs."""
    with older_server(tmp_path, METHODS) as asked:
        words = (command, "app-b/1", *HERE)
        ran = run_c2c(*words, C2C_DATA_DIR=str(tmp_path))
        printed = run_c2c(*words, "--output", "json", C2C_DATA_DIR=str(tmp_path)).json()

    assert [each[field] for each in printed] == ["i-1"]
    assert "instance app-b/1 in org default / space dev...\n" in ran.out
    assert len(ran.out.splitlines()) == 4
    assert (asked[0].app, asked[0].space, asked[0].org) == ("app-b", "dev", "default")


def test_the_server_is_asked_for_the_status_of_that_instance_only(tmp_path: Path) -> None:
    """A look at one instance does not have the server send those of its whole app."""
    with older_server(tmp_path, METHODS) as asked:
        assert run_c2c("status", "app-b/1", C2C_DATA_DIR=str(tmp_path)).code == 0

    assert asked[1:] == [inspection_pb2.GetStatusRequest(instance_guid="i-1")]


@pytest.mark.parametrize("command", ["instances", "status", "certs", "events"])
def test_an_instance_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    """Instead of an empty table the answer says which instance, and where to look."""
    with older_server(tmp_path, METHODS):
        ran = run_c2c(command, "app-b/7", *HERE, C2C_DATA_DIR=str(tmp_path))

    assert ran.code == 1
    assert ran.out.endswith("...\nFAILED\n")
    assert ran.err == (
        "Instance 'app-b/7' not found: 'c2c instances app-b -s dev -o default' lists them\n"
    )


def test_an_instance_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    """It may enrol in time; if it does not, the answer says so."""
    with older_server(tmp_path, METHODS) as asked:
        ran = run_c2c("wait", "app-b/7", "--timeout", "100ms", C2C_DATA_DIR=str(tmp_path))

    assert len(asked) > 1
    assert ran.code == 1
    assert ran.out.startswith("Waiting until instance app-b/7 in org default / space default is ")
    assert ran.err == (
        "0 of 1 instances are ready after 100ms: there is no such instance, and 'c2c instances "
        "app-b' lists those that there are\n"
    )


def test_an_instance_that_is_not_connected_is_told(tmp_path: Path) -> None:
    """One that is there but never connected is not said to be missing."""
    with older_server(tmp_path, METHODS):
        ran = run_c2c("wait", "app-b/1", "--timeout", "10ms", C2C_DATA_DIR=str(tmp_path))

    assert ran.code == 1
    assert ran.err == (
        "0 of 1 instances are ready after 10ms: it is not connected, and 'c2c status app-b/1' "
        "shows how it is\n"
    )


def test_one_instance_is_waited_for(tmp_path: Path) -> None:
    """It does not matter how far the others are; as it is one, no number goes with it."""
    ready = inspection_pb2.InstanceStatus(
        instance_guid="i-1",
        connected=True,
        status="ready",
        certificate=inspection_pb2.CERTIFICATE_STATE_SERVED,
    )
    for each in ("CDS", "LDS", "SDS"):
        ready.types.add(type=each, status=inspection_pb2.CONFIG_STATUS_SYNCED)
    answer = inspection_pb2.GetStatusResponse(instances=[ready])
    methods = METHODS | {
        "InspectionService/GetStatus": (inspection_pb2.GetStatusRequest, answer),
    }
    with older_server(tmp_path, methods) as asked:
        data = str(tmp_path)
        ran = run_c2c("wait", "app-b/1", C2C_DATA_DIR=data)
        refused = run_c2c("wait", "app-b/1", "--instances", "2", C2C_DATA_DIR=data)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(" is ready...\n1 instance is ready.\nOK\n")
    assert asked[1:] == [inspection_pb2.GetStatusRequest(instance_guid="i-1")]
    assert refused == Ran(
        1,
        "",
        "Incorrect Usage: APP/INDEX and --instances cannot be used together\nSee 'c2c help wait'\n",
    )


def test_the_events_of_one_instance_are_told(tmp_path: Path) -> None:
    """Those of others are passed over, but not how many were lost among them."""
    with watched_server(tmp_path) as asked:
        ran = run_c2c("events", "app-b/1", "--output", "json", *HERE, C2C_DATA_DIR=str(tmp_path))
    told = [json.loads(line) for line in ran.out.splitlines()]

    assert ran.code == 0
    assert [each["sentence"] for each in told] == ["of this one", "of this one, too"]
    assert [each["lost"] for each in told] == [3, 0]
    assert ran.err.startswith("3 events were lost: ")
    assert asked[1].app == "guid-b"
