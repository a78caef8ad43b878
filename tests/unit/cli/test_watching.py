"""A server that is listened to, and what is made of it when it falls silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.api.v1 import inspection_pb2
from control_plane.cli import client
from control_plane.cli.channel_options import CHANNEL_OPTIONS
from tests.unit.cli.running import run_c2c

DEADLINE = 20.0
PATIENCE = {
    f"grpc.{each}_ms" for each in ("keepalive_time", "keepalive_timeout", "http2.ping_timeout")
}


def telling(*sentences: str) -> grpc.GenericRpcHandler:
    """Serve watchers: each is told one event, and nothing more until it hangs up."""
    left = iter(sentences)

    def tell(_request: bytes, context: Any) -> Iterator[inspection_pb2.Event]:  # noqa: ANN401 - of a generic type
        hung_up = threading.Event()
        context.add_callback(hung_up.set)
        context.send_initial_metadata(())
        yield inspection_pb2.Event(kind="created", sentence=next(left))
        hung_up.wait(DEADLINE)

    handler: grpc.RpcMethodHandler[bytes, inspection_pb2.Event] = (
        grpc.unary_stream_rpc_method_handler(
            tell, response_serializer=inspection_pb2.Event.SerializeToString
        )
    )
    return grpc.method_handlers_generic_handler(
        "c2c.v1.InspectionService", {"WatchEvents": handler}
    )


class Cable:
    """A Unix socket that leads to another, until it is pulled: both ends stay open in vain."""

    def __init__(self, here: Path, there: Path, last_words: bytes) -> None:
        """Lead there until these words went through; connections to come are well again."""
        self._there, self._last_words = there, last_words
        self._ends: list[socket.socket] = []
        self._is_dead: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(here))
        self._listener.listen()
        threading.Thread(target=self._lead).start()

    def close(self) -> None:
        """End everything."""
        for each in (self._listener, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _lead(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
                self._ends += [near, far]
                far.connect(str(self._there))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other)).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if other not in self._is_dead:
                    other.sendall(data)
                if self._last_words in data:
                    self._is_dead |= set(self._ends)


def test_a_server_that_falls_silent_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells that a cable was pulled, so it is asked for; the watch goes on."""
    monkeypatch.setattr(
        client,
        "CHANNEL_OPTIONS",
        [(name, time // 100 if name in PATIENCE else time) for name, time in CHANNEL_OPTIONS],
    )
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((telling("it is well", "it is well again"),))
        server.add_insecure_port(f"unix:{tmp_path}/far.sock")
        server.start()
        cable = Cable(tmp_path / "admin.sock", tmp_path / "far.sock", b"it is well")
        ran = run_c2c("events", "--count", "2", C2C_DATA_DIR=str(tmp_path))
        cable.close()
        server.stop(0).wait(DEADLINE)
    away, back = ran.err.splitlines()

    assert ran.code == 0
    assert [line.split("   ")[-1].strip() for line in ran.out.splitlines()[1:]] == [
        "it is well",
        "it is well again",
    ]
    assert away == (
        f"The server at {tmp_path}/admin.sock takes connections and does not answer: it hangs, or "
        "somebody has stopped it (kill -CONT lets it go on) (trying again)"
    )
    assert back.startswith("Watching again since ")
