"""What a command line asks of a server about spaces, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from control_plane.api.v1 import inspection_pb2
from tests.unit.cli.conftest import run_c2c

DEADLINE = 20.0
SPACES = ("default", "dev")

Asked = inspection_pb2.GetStatusRequest | inspection_pb2.ListCertificatesRequest


def instances(_asked: Asked) -> Message:
    """Answer for every space, as a server does that knows of no other way."""
    answer = inspection_pb2.GetStatusResponse()
    for space in SPACES:
        answer.instances.add(app="app-b", org="default", space=space, alarms=["it is late"])
    return answer


def certificates(_asked: Asked) -> Message:
    """Answer likewise."""
    answer = inspection_pb2.ListCertificatesResponse()
    for space in SPACES:
        answer.certificates.add(
            app="app-b", org="default", space=space, secret="id", reason="it is late"
        )
    return answer


KNOWN: dict[str, tuple[type[Asked], Callable[[Asked], Message]]] = {
    "GetStatus": (inspection_pb2.GetStatusRequest, instances),
    "ListCertificates": (inspection_pb2.ListCertificatesRequest, certificates),
}


@contextmanager
def older_server(directory: Path) -> Iterator[list[Asked]]:
    """Serve inspection for every space until the block ends; yield what is asked."""
    asked: list[Asked] = []

    def handler(request: type[Asked], answer: Callable[[Asked], Message]) -> Any:  # noqa: ANN401 - of a generic type
        def reply(each: Asked, _context: object) -> Message:
            asked.append(each)
            return answer(each)

        return grpc.unary_unary_rpc_method_handler(
            reply,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    methods = {name: handler(*each) for name, each in KNOWN.items()}
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        service = grpc.method_handlers_generic_handler("c2c.v1.InspectionService", methods)
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{directory}/admin.sock")
        server.start()
        try:
            yield asked
        finally:
            server.stop(0).wait(DEADLINE)


@pytest.mark.parametrize("command", ["status", "certs"])
def test_only_the_space_that_is_looked_at_is_asked_for(command: str, tmp_path: Path) -> None:
    """A server need not send all of a fleet for a look at one space; an older one may."""
    with older_server(tmp_path) as asked:
        variables = {"C2C_DATA_DIR": str(tmp_path)}
        ran = run_c2c(command, "-s", "dev", "--output", "json", **variables)
        every = run_c2c(command, "--all", "--output", "json", **variables)

        of_app = run_c2c(command, "guid-b", "--output", "json", **variables)

    assert [each["space"] for each in ran.json()] == ["dev"]
    # An app that is named by its GUID may be anywhere.
    assert len(of_app.json()) == len(SPACES)
    assert [each["space"] for each in every.json()] == ["default", "dev"]
    assert [each.in_space for each in asked[:2]] == [True, False]
    assert (asked[0].org, asked[0].space, asked[0].app) == ("default", "dev", "")


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
