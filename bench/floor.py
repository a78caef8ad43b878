"""The floor: a bare grpc.aio server with mTLS that pushes prepared bytes, and does nothing else.

The rule of this module: it is what is left without State, store, issuing, planning and the rules of
the protocol, so the difference is what those cost. A client that asks for a type gets what the
directory has of it, ``TYPE/NAME``; a name with a number after a comma is a version to push later.

Lines in: ``push`` (the next version of the secret, to every client). Lines out: ``ready PORT``,
``first FILE`` (the first request, as it arrived), ``done T`` once every client has ACKed a push.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2

METHOD = "DeltaAggregatedResources"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type URL
Context = grpc.aio.ServicerContext[Any, Any]


class Floor(grpc.GenericRpcHandler):
    """Serves the content of a directory."""

    def __init__(self, directory: Path) -> None:
        """Read everything into responses that are ready to be sent."""
        self._directory = directory
        self._first: dict[str, bytes] = {}
        self._next: list[bytes] = []
        for place in sorted(directory.glob("type.googleapis.com/*/*")):
            url = f"type.googleapis.com/{place.parent.name}"
            name, _, number = place.name.partition(",")
            if number:
                self._next.append(_response(url, {name: place.read_bytes()}, number))
        for folder in directory.glob("type.googleapis.com/*"):
            url = f"type.googleapis.com/{folder.name}"
            bodies = {each.name: each.read_bytes() for each in folder.iterdir()}
            now = {name: body for name, body in bodies.items() if "," not in name}
            self._first[url] = _response(url, now, "0")
        self._streams: dict[Context, None] = {}
        self._owed = 0

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Serve delta ADS, whichever method is called."""
        return grpc.stream_stream_rpc_method_handler(self._serve)

    async def push(self) -> None:
        """Send the next version to every client."""
        response = self._next.pop(0)
        self._next.append(response)
        self._owed = len(self._streams)
        for context in tuple(self._streams):
            await context.write(response)

    async def _serve(self, _: AsyncIterator[bytes], context: Context) -> None:
        asked: set[str] = set()
        try:
            while (raw := await context.read()) is not grpc.aio.EOF:
                if not asked and not (first := self._directory / "first-request").exists():
                    first.write_bytes(raw)
                    say("first", first)
                request = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
                if request.type_url not in asked:
                    asked.add(request.type_url)
                    if request.type_url in self._first:
                        await context.write(self._first[request.type_url])
                    if request.type_url == SECRET:
                        self._streams[context] = None
                elif self._owed and request.response_nonce != "0":
                    self._owed -= 1
                    if not self._owed:
                        say("done", time.monotonic())
        finally:
            self._streams.pop(context, None)


def _response(url: str, bodies: dict[str, bytes], nonce: str) -> bytes:
    resources = [
        discovery_pb2.Resource(name=name, version=nonce, resource={"type_url": url, "value": body})
        for name, body in bodies.items()
    ]
    return bytes(
        discovery_pb2.DeltaDiscoveryResponse(
            type_url=url, resources=resources, nonce=nonce
        ).SerializeToString()
    )


def say(*words: object) -> None:
    """Print a line, and flush it."""
    print(*words, flush=True)


async def main(directory: Path) -> None:
    """Serve until standard input ends."""
    floor = Floor(directory)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([floor])
    pair = [((directory / "server.key").read_bytes(), (directory / "server.pem").read_bytes())]
    roots = (directory / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials(pair, roots, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    say("ready", port)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while (await reader.readline()).strip() == b"push":
        await floor.push()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
