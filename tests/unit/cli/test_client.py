"""What a command says when the server could not answer, by gRPC's own status codes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.api.v1 import trust_pb2, trust_pb2_grpc
from control_plane.cli import client
from control_plane.cli.channel_options import CHANNEL_OPTIONS
from control_plane.cli.reach import try_socket
from tests.unit.cli.running import Ran, run_c2c

SENTENCES = [
    (grpc.StatusCode.UNAVAILABLE, "The server at {where} cannot do this now: why"),
    (grpc.StatusCode.INTERNAL, "The server at {where} failed, and its log says why"),
    (grpc.StatusCode.DATA_LOSS, "The server at {where} answered DATA_LOSS: why"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "Why"),
    (grpc.StatusCode.UNAUTHENTICATED, "Why"),
    (grpc.StatusCode.PERMISSION_DENIED, "Why"),
]


class Refusing(trust_pb2_grpc.TrustServiceServicer):
    """Answers with the status that a test wants, or not at all."""

    code: grpc.StatusCode | None = None
    details = "why"

    def GetTrustBundle(
        self,
        request: trust_pb2.GetTrustBundleRequest,
        context: Any,  # noqa: ANN401 - of a generic type
    ) -> trust_pb2.GetTrustBundleResponse:
        """Refuse."""
        if self.code is None:
            while context.is_active():
                context.set_details(str(request))
            return trust_pb2.GetTrustBundleResponse()
        context.abort(self.code, self.details)
        raise AssertionError


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Refusing]:
    """Serve it on the socket of a data directory."""
    service = Refusing()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        trust_pb2_grpc.add_TrustServiceServicer_to_server(service, server)
        server.add_insecure_port(f"unix:{tmp_path}/admin.sock")
        server.start()
        yield service
        server.stop(0).wait(20)


@pytest.mark.parametrize(("code", "sentence"), SENTENCES, ids=lambda value: str(value)[:30])
def test_each_status_is_a_sentence(
    refusing: Refusing, tmp_path: Path, code: grpc.StatusCode, sentence: str
) -> None:
    """What the server refuses it says itself; whatever else happens names the server."""
    refusing.code = code

    assert run_c2c("trust-bundle", C2C_DATA_DIR=str(tmp_path)) == Ran(
        1, "", sentence.format(where=tmp_path / "admin.sock") + "\n"
    )


def test_a_refusal_without_a_word(refusing: Refusing, tmp_path: Path) -> None:
    """What refuses and does not say why is no server of ours; that is a sentence all the same."""
    refusing.code = grpc.StatusCode.PERMISSION_DENIED
    refusing.details = ""

    assert run_c2c("trust-bundle", C2C_DATA_DIR=str(tmp_path)).err == "The server gave no reason\n"


def test_a_refusal_cannot_steer_the_terminal(refusing: Refusing, tmp_path: Path) -> None:
    """A sentence that quotes what a client sent stays one line of printable text."""
    refusing.code = grpc.StatusCode.INVALID_ARGUMENT
    refusing.details = "bad\n\x1b[2Jname"

    assert run_c2c("trust-bundle", C2C_DATA_DIR=str(tmp_path)).err == "Bad\\n\\x1b[2Jname\n"


def test_an_older_server_is_told_apart(refusing: Refusing, tmp_path: Path) -> None:
    """A server without the method says so."""
    assert refusing.code is None

    assert run_c2c("apps", C2C_DATA_DIR=str(tmp_path)).err == (
        f"The server at {tmp_path}/admin.sock does not know this command: it may be older\n"
    )


def test_a_server_that_ends_during_a_call_is_not_there(
    refusing: Refusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gRPC says of a connection that broke is no help; that nobody answers there is."""
    refusing.code = grpc.StatusCode.UNAVAILABLE

    def connect_once(path: Path) -> None:
        try_socket(path)
        path.unlink()

    monkeypatch.setattr(client, "try_socket", connect_once)

    assert run_c2c("trust-bundle", C2C_DATA_DIR=str(tmp_path)).err == (
        f"No server answers at {tmp_path}/admin.sock: start one with 'c2c serve', set "
        "C2C_DATA_DIR, or C2C_SERVER if it is elsewhere\n"
    )


def test_no_answer_in_time(
    refusing: Refusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the deadline it says for how long it waited; what only reads has nothing to doubt."""
    assert refusing.code is None
    monkeypatch.setattr(client, "CALL_SECONDS", 0.2)

    assert run_c2c("trust-bundle", C2C_DATA_DIR=str(tmp_path)).err == (
        f"No answer from {tmp_path}/admin.sock within 0.2s\n"
    )


@pytest.mark.parametrize("is_full", [False, True], ids=["is silent", "is full"])
def test_a_server_that_hangs_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    """The machine accepts for a process that is stopped, until as many wait as may."""
    hurried = [
        (name, 200 if name == "grpc.min_reconnect_backoff_ms" else value)
        for name, value in CHANNEL_OPTIONS
    ]
    monkeypatch.setattr(client, "CHANNEL_OPTIONS", hurried)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as waiting:
        hanging.bind(str(path))
        hanging.listen(0 if is_full else 8)
        waiting.connect(str(path))
        ran = run_c2c("apps", C2C_DATA_DIR=str(tmp_path))

    does = "takes no connections" if is_full else "takes connections and does not answer"
    assert ran.err == (
        f"The server at {path} {does}: it hangs, or somebody has stopped it (kill -CONT lets it go "
        "on)\n"
    )
