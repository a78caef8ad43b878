"""What a client sees on a connection that it kept while the instance ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.envoy.harness import until
from tests.sidecar.scene import scene

TAKES_ITS_TIME = """
import http.server, os, signal, sys, time
def stop(*_):
    server.server_close(); print("told to stop", flush=True); time.sleep(3); os._exit(0)
signal.signal(signal.SIGTERM, stop)
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers)
server.serve_forever()
"""


async def test_it_is_closed_before_the_app_ends(tmp_path: Path) -> None:
    """A client that has a connection closed asks another instance; who is told 503 does not."""
    command = (sys.executable, "-c", TAKES_ITS_TIME)
    async with (
        scene(tmp_path, app=None) as here,
        here.instance("--offline-wait", "100ms", command=command) as instance,
    ):
        await here.caller.reaches(here.address)
        async with here.caller.connect(here.address) as client:
            assert (await client.request("/")).status == 200
            instance.process.send_signal(signal.SIGTERM)

            async def is_told() -> bool:
                return "told to stop" in instance.output

            await until(is_told, what="the app is told to stop")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.request("/")
        assert await instance.ended() == 0
