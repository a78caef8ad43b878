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
    found = [inspection_pb2.InstanceStatus(app="app-b", org="default", space=s) for s in SPACES]
    return inspection_pb2.GetStatusResponse(instances=found)


def certificates(_asked: Asked) -> Message:
    """Answer likewise."""
    found = [inspection_pb2.Certificate(app="app-b", org="default", space=s) for s in SPACES]
    return inspection_pb2.ListCertificatesResponse(certificates=found)


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
