"""What a command makes of the answer of an older server, which passes over what it knows not."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.message import Message

from control_plane.api.v1 import app_pb2
from tests.unit.cli.running import Ran, run_c2c
from tests.unit.cli.test_spaces import older_server

WORKER = app_pb2.App(name="worker")
ANSWERS: dict[str, tuple[type[Message], Message]] = {
    "create-app": (app_pb2.CreateAppRequest, app_pb2.CreateAppResponse(app=WORKER)),
    "update-app": (
        app_pb2.UpdateAppRequest,
        app_pb2.UpdateAppResponse(app=WORKER, already=True),
    ),
}
METHODS = {"create-app": "AppService/CreateApp", "update-app": "AppService/UpdateApp"}


@pytest.mark.parametrize("command", list(METHODS))
def test_a_health_check_type_that_was_passed_over_is_told(command: str, tmp_path: Path) -> None:
    """Nobody reads OK, or that the app is like that already, of what the server does not know."""
    with older_server(tmp_path, {METHODS[command]: ANSWERS[command]}):
        words = (command, "worker", "--health-check-type", "process")
        data = str(tmp_path)
        ran = run_c2c(*words, "--output", "json", C2C_DATA_DIR=data)
        without = run_c2c(command, "worker", "--output", "json", C2C_DATA_DIR=data)

    assert ran == Ran(
        1,
        "",
        "The server knows no health check types, it may be older: app 'worker' got everything that "
        "was asked for except its health check type\n",
    )
    assert without.code == 0
