"""Whatever size a message has, TLS carries it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import grpc

from control_plane.server.limits import ServerLimits
from tests.server.pairs import Pair

Echo = grpc.aio.StreamStreamCall[bytes, bytes]

OVERHEAD = 100
"""What gRPC leaves of a record for TLS itself, in octets."""

HEADERS = 60
"""At least what HTTP/2 and gRPC put around a message of some records, in octets."""

RECORDS = 4


async def _echo(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while isinstance(size := await context.read(), bytes):
        await context.write(_message(int(size)))


def _message(size: int) -> bytes:
    return bytes([size % 251]) * size


class _Handler(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - grpc has no type for it
        return grpc.stream_stream_rpc_method_handler(_echo)


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    """Yield a call to a server with our options that answers with as many octets as it is told."""
    pair = Pair.make()
    server = grpc.aio.server(handlers=[_Handler()], options=ServerLimits().channel_options())
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    )
    await server.start()
    roots = grpc.ssl_channel_credentials(pair.certificate)
    options = [("grpc.ssl_target_name_override", "localhost")]
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", roots, options) as channel:
            yield channel.stream_stream("/a/b")()
    finally:
        await server.stop(None)


async def test_a_message_may_fill_a_record_to_the_last_octet() -> None:
    """A response of an unlucky size would end the stream, and again when it is sent again."""
    options = dict(ServerLimits().channel_options())
    record = options["grpc.tsi.max_frame_size"] - OVERHEAD
    around = (range(n * record - 3 * HEADERS, n * record) for n in range(1, RECORDS + 1))
    async with echoing() as call, asyncio.timeout(60):
        for size in chain(range(1, 4500), *around):
            await call.write(str(size).encode())

            assert await call.read() == _message(size)
