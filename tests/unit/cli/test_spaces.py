"""What a command line asks of a server about spaces, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.api.v1 import inspection_pb2, instance_pb2, network_policy_pb2, route_pb2
from tests.unit.cli.running import run_c2c

DEADLINE = 20.0
SPACES = ("default", "dev")
APP: dict[str, object] = {"app": "app-b", "org": "default"}
POLICY: dict[str, object] = {"source": "app-a", "source_org": "default"}

# What answers for every space, as a server does that knows of no other way.
METHODS: dict[str, tuple[type[Message], Message]] = {
    "InspectionService/GetStatus": (
        inspection_pb2.GetStatusRequest,
        ParseDict(
            {"instances": [APP | {"space": each, "alarms": ["it is late"]} for each in SPACES]},
            inspection_pb2.GetStatusResponse(),
        ),
    ),
    "InspectionService/ListCertificates": (
        inspection_pb2.ListCertificatesRequest,
        ParseDict(
            {
                "certificates": [
                    APP | {"space": each, "secret": "id", "reason": "it is late"} for each in SPACES
                ]
            },
            inspection_pb2.ListCertificatesResponse(),
        ),
    ),
    "InstanceService/ListInstances": (
        instance_pb2.ListInstancesRequest,
        ParseDict(
            {"instances": [APP | {"space": each} for each in SPACES]},
            instance_pb2.ListInstancesResponse(),
        ),
    ),
    "RouteService/ListRoutes": (
        route_pb2.ListRoutesRequest,
        ParseDict(
            {"routes": [APP | {"space": each} for each in SPACES]}, route_pb2.ListRoutesResponse()
        ),
    ),
    "NetworkPolicyService/ListNetworkPolicies": (
        network_policy_pb2.ListNetworkPoliciesRequest,
        ParseDict(
            {"policies": [POLICY | {"source_space": each} for each in SPACES]},
            network_policy_pb2.ListNetworkPoliciesResponse(),
        ),
    ),
}


def handler(asked: list[Any], request: type[Message], answer: Message) -> Any:  # noqa: ANN401 - of a generic type
    """Return what answers a method, and remembers what is asked."""

    def reply(each: Message, _context: object) -> Message:
        asked.append(each)
        return answer

    return grpc.unary_unary_rpc_method_handler(
        reply,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


@contextmanager
def older_server(
    directory: Path, methods: Mapping[str, tuple[type[Message], Message]] = METHODS
) -> Iterator[list[Any]]:
    """Answer these methods, unless told for every space, until the block ends; yield the calls."""
    asked: list[Any] = []
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        for name, (request, answer) in methods.items():
            service, _, method = name.partition("/")
            one = {method: handler(asked, request, answer)}
            made = grpc.method_handlers_generic_handler(f"c2c.v1.{service}", one)
            server.add_generic_rpc_handlers((made,))
        server.add_insecure_port(f"unix:{directory}/admin.sock")
        server.start()
        try:
            yield asked
        finally:
            server.stop(0).wait(DEADLINE)


@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("status", ""),
        ("certs", ""),
        ("instances", ""),
        ("routes", ""),
        ("network-policies", "source_"),
    ],
)
def test_only_the_space_that_is_looked_at_is_asked_for(
    command: str, prefix: str, tmp_path: Path
) -> None:
    """A server need not send all of a fleet for a look at one space; an older one may."""
    with older_server(tmp_path) as asked:
        variables = {"C2C_DATA_DIR": str(tmp_path)}
        ran = run_c2c(command, "-s", "dev", "--output", "json", **variables)
        every = run_c2c(command, "--all", "--output", "json", **variables)
        of_app = run_c2c(command, "guid-b", "--output", "json", **variables)

    assert [each[f"{prefix}space"] for each in ran.json()] == ["dev"]
    assert [each[f"{prefix}space"] for each in every.json()] == ["default", "dev"]
    # An app that is named by its GUID may be anywhere.
    assert len(of_app.json()) == len(SPACES)
    assert [getattr(each, f"in_{prefix}space") for each in asked[:2]] == [True, False]
    assert [getattr(asked[0], f"{prefix}{each}") for each in ("org", "space")] == ["default", "dev"]


@pytest.mark.parametrize(("command", "what"), [("status", "ALARM"), ("certs", "id")])
def test_what_is_said_below_a_table_says_of_which_space_it_is(
    command: str, what: str, tmp_path: Path
) -> None:
    """Apps of one name are told apart there too, where they can be of several spaces."""
    with older_server(tmp_path):
        of_one, of_all = [
            run_c2c(command, *words, C2C_DATA_DIR=str(tmp_path)).out.splitlines()
            for words in ((), ("--all",))
        ]

    assert of_one[-1:] == [f"app-b/0 {what}: it is late"]
    assert of_all[-2:] == [
        f"app-b/0 in org default / space default {what}: it is late",
        f"app-b/0 in org default / space dev {what}: it is late",
    ]


@pytest.mark.parametrize("words", [("-s", "dev"), ("--space", "dev"), ("-o", "acme")])
def test_one_space_and_every_space_cannot_be_meant_together(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """Who names a space is not shown others; an alias and a variable may name one all the same."""
    with older_server(tmp_path):
        data = str(tmp_path)
        ran = run_c2c("instances", *words, "--all", C2C_DATA_DIR=data)
        aliased = run_c2c(*words, "instances", "--all", "--output", "json", C2C_DATA_DIR=data)
        variables = {"C2C_DATA_DIR": data, "C2C_ORG": "acme", "C2C_SPACE": "dev"}
        by_variable = run_c2c("instances", "--all", "--output", "json", **variables)

    flag = "-o" if words[0] == "-o" else "-s"
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"Incorrect Usage: {flag} and --all cannot be used together: --all is every space of "
        "every org\nSee 'c2c help instances'\n"
    )
    assert len(aliased.json()) == len(by_variable.json()) == len(SPACES)
